"""A million questions to one process, with records, sketches and retention on: resident memory at 0.1, 0.25, 0.5 and 1 million.

Rows of 784 numbers over 64 kept connections, as fast as answers come; of the records the newest gigabyte is kept (64 MB with
`--quick`, which asks 60,000). `--mutant hoard` keeps every answer that was recorded, as a list of all requests would: it must miss.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.load_client import client, press
from benchmarks.measuring import is_quick, mutant, told
from benchmarks.serve_load import bodies
from benchmarks.serve_row import serving
from benchmarks.under_attack import memory_mb
from benchmarks.wide_bundle import wide_bundle

GOAL = "resident memory over a million requests: growth in MB after the first tenth"
ANCHOR_MB = 20.0
MARKS, PART_S = (0.1, 0.25, 0.5, 1.0), 5.0
CODE = """
import sys
from functools import partial
from keepfit.serve import server
if sys.argv.pop(1) == "hoard":
    kept, before = [], server.Recorder.put
    server.Recorder.put = lambda self, answered: (kept.append(answered), before(self, answered))[1]
if sys.argv.pop(1) == "quick":
    server.Limits = partial(server.Limits, prune_s=2.0)
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""


def kept_mb(workspace: Path) -> float:
    """How much of the records is on the disk."""
    return sum(path.stat().st_size for path in workspace.rglob("*.jsonl")) / 1e6


def main() -> int:
    """Ask, and look at the memory at every mark."""
    wanted = 60_000 if is_quick() else 1_000_000
    said = "{record_size: 64MB}" if is_quick() else "{}"
    body, begun = bodies()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bundle = wide_bundle(Path(scratch, "bundle"), serve=said)
        how = (mutant() or "", "quick" if is_quick() else "")
        with serving("-c", CODE, *how, str(bundle), "--port", "0", "--workspace", scratch) as (port, pid):
            press(port, body, 64, 1.0)
            answered, lost, late, sizes = 0.0, 0.0, 0.0, {}
            for mark in MARKS:
                while answered < mark * wanted:
                    seen = press(port, body, 64, PART_S)
                    answered += seen["answers_per_s"] * PART_S
                    lost += seen["failed"] - seen["late"]
                    late += seen["late"]
                sizes[round(answered)] = round(memory_mb(pid), 1)
            disk = kept_mb(Path(scratch))
    first, *_, last = sizes.values()
    return told(
        GOAL,
        round(last - first, 1),
        ANCHOR_MB,
        last - first <= ANCHOR_MB and not lost,
        rss_mb=sizes,
        records_mb=round(disk),
        lost=lost,
        late=late,
        minutes=round((time.monotonic() - begun) / 60, 1),
        client=client(),
        mutant=mutant(),
    )


if __name__ == "__main__":
    sys.exit(main())
