"""A budget of memory: a uniform sample that depends on the seed alone, and an account in which no row is lost."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest

import keepfit as kf
from keepfit.core.errors import RecipeError
from keepfit.engine import facts
from keepfit.recipe import parse
from keepfit.runtime import delimited
from keepfit.runtime.decoding import as_utf8
from keepfit.runtime.table import Table, text_column
from keepfit.stages import sample
from keepfit.stages.ingest import ingest
from keepfit.stages.results import all_entries, given_of, ledger_of, row_counts, table_of
from keepfit.stages.sample import Memory, Sampler
from keepfit.start import check


def numbers(first: int, count: int) -> Table:
    return Table({"a": text_column(range(first, first + count))})


def filled(seed: int, limit: float, chunk: int, rows: int = 5000) -> Sampler:
    made = Sampler(limit, np.random.default_rng(seed))
    for first in range(0, rows, chunk):
        made.add("f", first, numbers(first, min(chunk, rows - first)))
    return made


def test_all_stay_where_all_fit():
    made = filled(0, 1e9, 100)
    ((name, rows, table),) = made.tables()
    assert (name, made.left, rows.tolist()) == ("f", 0, list(range(5000)))
    assert table.columns["a"].tolist() == [str(n) for n in range(5000)]


@pytest.mark.parametrize("chunk", [7, 100, 5000])
def test_a_sample_is_uniform_and_exact(chunk, monkeypatch):
    monkeypatch.setattr(sample, "_MOST_PARTS", 20)
    counts: Counter[int] = Counter()
    for seed in range(30):
        made = filled(seed, 100_000, chunk)
        ((_, rows, table),) = made.tables()
        assert made.seen == 5000 and made.left == 5000 - len(rows) and 300 < len(rows) < 600
        assert table.columns["a"].tolist() == [str(row) for row in rows] and (np.diff(rows) > 0).all()
        counts.update((rows // 500).tolist())
    share = np.array([counts[tenth] for tenth in range(10)]) / sum(counts.values())
    assert np.abs(share - 0.1).max() < 0.015  # five standard errors: early and late rows alike
    ((_, once, _),) = filled(3, 100_000, chunk).tables()
    ((_, twice, _),) = filled(3, 100_000, chunk).tables()
    assert once.tolist() == twice.tolist()


def test_a_file_that_fails_half_way_leaves_nothing():
    made = filled(0, 1e9, 1000)
    made.add("g", 0, numbers(0, 10))
    made.forget("f")
    assert [(name, len(rows)) for name, rows, _ in made.tables()] == [("g", 10)] and (made.seen, made.left) == (10, 0)


def write(folder, rows: int = 4000):
    rng = np.random.default_rng(1)
    for number in (1, 2):
        with (folder / f"part{number}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["a", "b", "y"])
            for _ in range(rows // 2):
                a, b = rng.normal(size=2)
                out.writerow([f"{a:.4f}", f"{b:.4f}", "yes" if a + b > 0 else "no"])
            file.write("1,2,3,4,5\n1,2,yes,\n")
    return parse(
        "version: 1\ndata: {source: 'part*.csv', target: y}\nbudget: {memory: 100MB}\nmodel: {use: linear}\n",
        folder=folder,
    )


def test_the_rows_left_out_are_one_entry_of_the_ledger(tmp_path):
    recipe = write(tmp_path)
    made = ingest(recipe.data, tmp_path, None, Memory(2_000_000, 7))
    table, entries = table_of(made), ledger_of(made)
    (beyond,) = [entry for entry in entries if entry.rule.startswith("beyond")]
    came, kept = row_counts({"ingest": made})
    assert came == 4002 + 2 and kept == len(table) == came - beyond.count - 2 and 500 < kept < 1500
    assert (
        f"a random sample of {kept} of 4002 rows was taken (seed 7)" in beyond.rule
        and beyond.before == f"{beyond.count} rows"
    )
    assert {str(i).partition("#")[0] for i in table.ids} == {"part1.csv", "part2.csv"}
    whole = ingest(recipe.data, tmp_path, None)
    assert set(table.ids.tolist()) < set(table_of(whole).ids.tolist())  # a row has the same name in sample and whole
    fits = ingest(recipe.data, tmp_path, None, Memory(10**9, 7))
    assert fits == whole


@pytest.mark.parametrize("text", ["plain", 'café, "über"\nnext line', "\t"])
def test_rows_chosen_in_the_reader_are_those_chosen_one_table_after_another(tmp_path, monkeypatch, text):
    recipe = write(tmp_path)
    for number in (1, 2):
        path = tmp_path / f"part{number}.csv"
        lines = path.read_text().splitlines()[:-2]  # a line that cannot be read takes the way of all other files
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*line.split(","), text if row else "t"] for row, line in enumerate(lines))
    asked: list[int] = []
    sifted = delimited._sifted

    def spied(*said):
        stay = sifted(*said)
        asked.append(len(stay))
        return stay

    monkeypatch.setattr(delimited, "_sifted", spied)
    inside = ingest(recipe.data, tmp_path, None, Memory(2_000_000, 7))
    assert len(asked) == 2 and max(asked) < 1500
    monkeypatch.setattr(delimited, "_sifted", lambda *_: None)
    outside = ingest(recipe.data, tmp_path, None, Memory(2_000_000, 7))
    assert 300 < len(table_of(inside)) < 1500 and inside == outside


def test_a_plain_file_is_not_copied_and_any_other_is(tmp_path):
    for name, data, is_plain in (
        ("a.csv", b"a,b\n1,2\n", True),
        ("b.csv", "a,é\n1,名\n".encode() * 200_000, True),
        ("c.csv", b"\xef\xbb\xbfa,b\n1,2\n", False),
        ("d.csv", b"a,b\r\n1,2\r\n", False),
        ("e.csv", b"a,b\n" + b"1,2\n" * 100 + b"1,\x002\n", False),
        ("f[1].csv", b"a,b\n1,2\n", False),
        ("g.csv", "a,b\n1,é\n".encode("latin-1"), False),
    ):
        (tmp_path / name).write_bytes(data)
        with as_utf8(tmp_path / name, None) as (plain, head):
            assert (plain == tmp_path / name) is is_plain, name
            assert head.startswith("a,"), name


def test_a_run_within_a_budget_says_so(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(sample, "SHARE", 0.003)
    text = "version: 1\ndata: {source: 'part*.csv', target: y}\nbudget: {memory: 100MB}\nmodel: {use: linear}\n"
    (tmp_path / "r.yaml").write_text(text)
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path / "w", until="clean")
    came, kept = row_counts(run.files)
    assert came == 4004 and kept < 1500
    sentences = [row["sentence"] for row in facts._ledger(all_entries(run.files))]
    assert any("a random sample of" in said and "seed 0" in said for said in sentences)
    assert len(given_of(run.files["ingest"]).tolist()) < came
    assert any("a random sample of" in said for said in check(tmp_path / "r.yaml", [], tmp_path / "w")["ledger"])


def test_a_budget_of_memory_is_for_tables():
    with pytest.raises(RecipeError, match=r"nothing in this plan reads 'budget.memory'"):
        parse("version: 1\ndata: {source: 'voc:x'}\nbudget: {memory: 1GB}\n")
    with pytest.raises(RecipeError):
        parse("version: 1\ndata: {source: a.csv, target: y}\nbudget: {memory: 1MB}\n")
