"""What cleaning finds and does is the same for a table by codes as for one of object arrays."""

from __future__ import annotations

import random

import numpy as np
import pytest

from keepfit.cleaning import line
from keepfit.cleaning.near_rows import near_rows
from keepfit.cleaning.view import View
from keepfit.modalities.tabular.schema import looked
from keepfit.recipe.clean import clean_class
from keepfit.runtime.coded import Coded, objects
from keepfit.runtime.samples import Ids, contents
from keepfit.runtime.table import Table
from keepfit.store.ledger import BACK, Block, Ledger

WAYS = [
    {},
    {"duplicates": "drop", "missing": {"numeric": "mean", "categorical": "most_frequent"}, "near_duplicates": "drop"},
    {"outliers": "clip", "rare": "group", "spellings": "apply", "drop_rows_missing_over": 0.4},
    {"formats": "blank", "dependencies": "repair", "missing": {"numeric": "knn"}, "outliers": "drop"},
]


def made(seed, rows=240):
    rng = random.Random(seed)
    cities = {"Paris": "France", "Lyon": "France", "Bonn": "Germany", "Köln": "Germany", "Rome": "Italy"}
    columns: dict[str, list[str | None]] = {name: [] for name in ("n", "amount", "city", "land", "day", "code", "y")}
    for row in range(rows):
        city = rng.choice(list(cities))
        columns["n"].append(
            rng.choice([None, f"{rng.gauss(0, 1):.2f}", f"{rng.gauss(0, 1):.2f}", "900"] if row % 9 else ["?"])
        )
        columns["amount"].append(rng.choice(["12 kg", "13.5 kg", "7", "1,200", None]) if row % 20 else "heavy")
        columns["city"].append(city if row % 17 else city.upper())
        columns["land"].append(cities[city] if row % 31 else "Spain")
        columns["day"].append(f"2020-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}" if row % 40 else "12/31/2020")
        columns["code"].append(f"A-{rng.randint(1, 60):03d}" if row % 33 else f"{rng.randint(1, 60)}a")
        columns["y"].append(rng.choice(["yes", "no"]))
    for cells in columns.values():
        cells += cells[:7]
    return columns


def both(columns):
    coded = {name: Coded.of(cells) for name, cells in columns.items()}
    rows = len(columns["y"])
    found = contents(list(coded.values()), rows)
    ids = Ids(["a.csv"], np.zeros(rows, np.int32), np.arange(rows), found)
    some = np.arange(0, rows, 1)
    by_codes = Table({**coded}, ids).take(some)
    return by_codes, Table({name: objects(cells) for name, cells in columns.items()}, objects(ids.tolist())).take(some)


@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest.mark.parametrize("seed", range(3))
def test_findings_rules_entries_and_repairs_are_the_same(way, seed):
    section, undo, told = clean_class().model_validate(WAYS[way]), [], []
    for undoing in (False, True):
        for table in both(made(seed)):
            rules = tuple(one.rule for one in looked(table, "y", {}, []))
            view = View(table, rules, "y")
            done = line.clean(view, section, undo, seed, near_rows(table, rules))
            findings = [one.as_json() for one in done.findings]
            told.append((rules, findings, list(done.entries), done.rules, done.patches, done.spared, done.dropped))
        assert told[-1] == told[-2]
        entries = told[-1][2]
        undo = [entry.key for entry in entries if entry.is_undoable][::5]
        assert undoing == any(entry.rule.endswith(BACK) for entry in entries) or not undo


def test_a_block_is_its_entries():
    by_codes, plain = both(made(1))
    rows = np.array([3, 5])
    cells = by_codes.columns["n"][rows], by_codes.columns["city"][rows]
    blocks = [Block(table.ids[rows], "n", "imputed: mean", *cells, "clean", "changed") for table in (by_codes, plain)]
    one, two = (Ledger([block]) for block in blocks)
    assert one == two == list(one) and len(one) == 2 and one[1].before == (cells[0][1] or "") and one[0].unit == "cell"
    assert one.samples("changed")[0].tolist() == [entry.id for entry in one] and one.samples("dropped") == []
    assert len(one + two) == 4 and blocks[0].unit == "cell"
