"""Columns that name things are recognized though values repeat; columns that describe things are not taken for such."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from made_tables import csv_text, mixed

from keepfit.cli import main
from keepfit.modalities.tabular.schema import infer
from keepfit.runtime.table import Table, text_column

N = 900
RNG = np.random.default_rng(0)


def each(times, name):
    found = [name(n) for n in range(N // times)] * times
    RNG.shuffle(found)
    return found


NAMES = {
    "customer": (each(2, lambda n: f"C{n + 1000:05d}"), "codes of one shape"),
    "customer of three": (each(3, lambda n: f"CUST-{n:06d}"), "codes of one shape"),
    "ticket": (each(2, lambda n: f"TCK{n * 37 + 100_000}"), "codes of one shape"),
    "mail": (each(2, lambda n: f"user.{'abcdef'[n % 6] * (n % 5 + 1)}{n}@mail{n % 3}.example.com"), "e-mail addresses"),
    "uuid": (each(2, lambda n: str(uuid.UUID(int=n * 10**30 + 7))), "UUIDs or digests"),
    "digest": (each(2, lambda n: hashlib.md5(str(n).encode()).hexdigest()), "UUIDs or digests"),
    "phone": (each(2, lambda n: f"555-{n % 900 + 100}-{n * 7919 % 9000 + 1000}"), "numbers with marks"),
    "mail of a few": ([f"u{int(n)}@example.org" for n in RNG.zipf(1.2, N)], "e-mail addresses"),
}
DESCRIBE = {
    "diagnosis": [f"E{int(a) % 100:02d}.{b}" for a, b in zip(RNG.zipf(1.3, N), RNG.integers(0, 10, N), strict=True)],
    "skewed": [f"CODE{int(n) % 100_000 + 1000}" for n in RNG.zipf(1.5, N)],
    "pressure": [f"{a}/{b}" for a, b in RNG.integers(90, 120, (N, 2))],
    "time": [f"{a:02d}:{b:02d}" for a, b in zip(RNG.integers(0, 24, N), RNG.integers(0, 60, N), strict=True)],
    "article": [f"{('SHOE', 'HAT', 'BAG')[n % 3]}-{n:04d}" for n in RNG.integers(0, 500, N)],
    "surname": each(2, lambda n: "Smith" + "abcdefghij"[n % 10] * (n // 10 % 7 + 1) + "klmnopq"[n // 70]),
    "note": [f"call {n} back" for n in RNG.integers(0, 500, N)],
}


def found(column):
    table = Table({"x": text_column(column), "n": text_column(range(N)), "y": text_column(["a", "b"] * (N // 2))})
    return infer(table, "y", {"n": "numeric"}, [])[0]


@pytest.mark.parametrize("name", list(NAMES))
def test_names_of_things_are_left_out_with_a_reason(name):
    column, shape = NAMES[name]
    finding = found(column)
    assert finding.rule.kind == "ignore" and finding.as_json()["override"] == "data.columns.x=text"
    assert finding.rule.why.startswith(f"an identifier: {len(set(column))} different {shape}")
    assert finding.rule.why.endswith(f"in {N} rows")


@pytest.mark.parametrize("name", list(DESCRIBE))
def test_what_describes_a_thing_is_learned_from(name):
    assert len(set(DESCRIBE[name])) > 0.2 * N or name == "skewed"
    assert found(DESCRIBE[name]).rule.kind in ("text", "categorical")
    assert found(DESCRIBE[name]).as_json()["override"] == ""


def test_the_plan_says_what_is_left_out_and_how_to_overrule_it(tmp_path, capsys):
    rows = [{**row, "client no": f"K{place // 2:05d}"} for place, row in enumerate(mixed())]
    (tmp_path / "t.csv").write_text(csv_text(rows), "utf-8")
    (tmp_path / "r.yaml").write_text("data: {source: t.csv, target: answer}\nmodel: {use: linear}\n")
    asked = ["check", str(tmp_path / "r.yaml"), "--workspace", str(tmp_path)]
    assert main.run(asked) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if "'client no' is not used" in line)
    assert "different codes of one shape in" in line and line.endswith(
        "to learn from it: 'data.columns.client no=text'"
    )
    assert main.run([*asked, "data.columns.client no=text"]) == 0
    assert "'client no' is not used" not in capsys.readouterr().out
