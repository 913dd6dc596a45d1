"""Requests made from our own OpenAPI document, good and bad, by Schemathesis, against a live service of mixed columns.

No 5xx, no reply outside the document, and no body that the document calls wrong is answered. `--mutant accepts` takes unknown
columns, as a service that reads what it knows would: it must be found.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, skipped, told
from benchmarks.serve_row import service

GOAL = "5,000 requests from the OpenAPI document: no 5xx, no reply outside it, no wrong body accepted"
CASES, QUICK_CASES = 5000, 400
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
)
ACCEPTS = """
import sys
from keepfit.runtime.predictor import Predictor
class Any(frozenset):
    def __contains__(self, name):
        return True
before = Predictor.check_rows
def check_rows(self, rows):
    object.__setattr__(self, "ignored", Any(self.ignored))
    return before(self, rows)
Predictor.check_rows, Predictor.quick_body = check_rows, lambda self, body, most: None
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""
PEOPLE = """age,city,member,since,answer
31,Rome,true,2020-01-31,yes
44,Paris,false,2021-02-28,no
27,Rome,false,2019-05-01,no
58,Oslo,true,2018-07-17,yes
"""


def table() -> str:
    """Mixed columns, enough rows to learn from."""
    head, *rows = PEOPLE.splitlines()
    aged = [re.sub(r"^\d+", lambda age, n=n: str(int(age[0]) + n % 17), rows[n % 4]) for n in range(200)]
    return "\n".join([head, *aged]) + "\n"


def cases(url: str, examples: int) -> tuple[int, int, str]:
    """How many were made, how many kinds of fault were found, and what was said of them."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", f"--max-examples={examples}"]
    command += ["--phases=examples,coverage,fuzzing", "--mode=all", f"--checks={','.join(CHECKS)}", "--no-color"]
    done = subprocess.run([*command, "--generation-deterministic"], capture_output=True, text=True, check=False)
    made = re.search(r"([\d,]+) generated", done.stdout)
    if made is None:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    faults = sum(int(count) for count in re.findall(r"❌ ST\d+[^:]*: (\d+)", done.stdout))
    found = re.search(r"=+ FAILURES =+(.*?)=+ (?:WARNINGS|SUMMARY)", done.stdout, re.DOTALL)
    return int(made[1].replace(",", "")), faults or done.returncode, found[1].strip()[:1500] if found else ""


def main() -> int:
    """The line."""
    if find_spec("schemathesis") is None:
        return skipped(GOAL, 0, "schemathesis is not installed")
    wanted = QUICK_CASES if is_quick() else CASES
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        source = f"{scratch}/people.csv"
        with open(source, "w", encoding="utf-8") as file:
            file.write(table())
        bundle = kf.fit(
            source, "answer", workspace=scratch, overrides=["model.use=linear", "clean.leaks=report"]
        ).bundle
        command = ("-c", ACCEPTS) if mutant() == "accepts" else ("-m", "keepfit", "serve")
        with service(*command, str(bundle), "--port", "0", "--workspace", scratch) as port:
            # What a document has of fixed cases is made once; the rest grows with the examples of each of its operations.
            made, faults, said = cases(f"http://127.0.0.1:{port}", 40 if is_quick() else 1100)
    passed = faults == 0 and made >= wanted
    return told(GOAL, faults, 0, passed, cases=made, mutant=mutant(), found=said or None)


if __name__ == "__main__":
    sys.exit(main())
