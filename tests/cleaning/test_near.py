"""Near-duplicates of texts, rows and pictures are found, and strangers are not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.cleaning import near_rows as module
from keepfit.cleaning.groups import joined
from keepfit.cleaning.near_rows import near_rows
from keepfit.cleaning.near_texts import near_texts
from keepfit.cli.main import run
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, from_rows

WORDS = [
    "parcel",
    "window",
    "invoice",
    "refund",
    "broken",
    "again",
    "blue",
    "train",
    "morning",
    "garden",
    "seven",
    "kettle",
]


def members(first):
    """Groups of two rows or more, rows ascending, groups by their first row."""
    found = {}
    for row in np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1):
        found.setdefault(int(first[row]), []).append(int(row))
    return list(found.values())


def sentences(count: int) -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(WORDS[int(n)] for n in rng.integers(0, len(WORDS), 14)) for _ in range(count)]


def test_texts_that_differ_in_a_word_case_or_blanks_are_near() -> None:
    texts = sentences(300)
    made = [*texts, texts[3].upper(), texts[5].replace(" ", "  "), texts[7] + "!", None, "", " "]
    groups = members(near_texts(made))
    assert groups == [[3, 300], [5, 301], [7, 302]]


def test_texts_without_blanks_and_short_ones_are_compared_too() -> None:
    groups = members(near_texts(["今天天气很好我们去公园散步吧", "今天天气很好我们去公园散步吧！", "ok", "no", "OK"]))
    assert groups == [[0, 1], [2, 4]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(alphabet="abc ", max_size=12), max_size=12))
def test_equal_texts_are_always_near(texts: list[str]) -> None:
    first = near_texts(texts + texts)
    assert all(first[row] == first[row + len(texts)] for row, text in enumerate(texts) if text.strip())


def test_rows_within_the_tolerance_are_near_and_identifiers_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"K{n}", "x": float(rng.normal()), "z": float(rng.normal()), "city": ["Paris", "Lima"][n % 2], "y": None}
        for n in range(100)
    ]
    rows += [{**rows[4], "id": "K900", "city": "PARIS ", "x": rows[4]["x"] + 1e-5}, {**rows[5], "y": 3.0}]  # type: ignore[operator]
    rules = [ColumnRule("id", "ignore"), *(ColumnRule(n, "numeric") for n in "xyz"), ColumnRule("city", "categorical")]
    table = from_rows(rows, ["id", "x", "z", "city", "y"])
    assert members(near_rows(table, rules)) == [[4, 100]]
    assert members(near_rows(table, rules, tolerance=0.0)) == []


def crowded() -> tuple[Table, list[ColumnRule]]:
    """900 rows of a slow sensor, 20 within the tolerance at each of 45 places, and 300 rows of their own."""
    rng = np.random.default_rng(0)
    places = rng.random((45, 10))
    points = [*(places[n % 45] + rng.random(10) * 5e-4 for n in range(900)), *rng.random((300, 10))]
    names = list("abcdefghij")
    rows = [dict(zip(names, map(float, point), strict=True)) for point in points]
    return from_rows(rows, names), [ColumnRule(name, "numeric") for name in names]


def test_the_pairs_that_are_compared_are_bounded_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rules = crowded()
    told: list[str] = []
    every = near_rows(table, rules, told=told)
    assert sorted(map(len, members(every))) == [20] * 45 and not told
    sizes = []
    monkeypatch.setattr(module, "joined", lambda rows, pairs: sizes.append(len(pairs)) or joined(rows, pairs))
    for most in (6_000, 2_400):  # 8,550 pairs are near
        monkeypatch.setattr(module, "MOST_PAIRS", most)
        told.clear()
        first = near_rows(table, rules, told=told)
        assert sizes.pop() <= most and len(told) == 1 and told[0].startswith("of 1200 rows so many lie close")
        assert (every[first] == every).all()  # whoever is together here was together there
        assert len(set(first[:900].tolist())) < 120  # and few of a crowd are missed


def test_rows_beside_a_crowd_are_all_compared_and_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rules = crowded()
    rng = np.random.default_rng(1)
    towns = np.array(["a"] * 1200 + [f"t{n % 20}" for n in range(400)], object)
    lone = [np.concatenate([column, [str(x) for x in rng.random(400)]]) for column in table.columns.values()]
    near = Table({**dict(zip(table.names, lone, strict=True)), "town": towns})
    for column in near.columns.values():
        column[1500:1600:20] = column[1400:1500:20]  # five pairs of one town each
    rules = [*rules, ColumnRule("town", "categorical")]
    told: list[str] = []
    monkeypatch.setattr(module, "MOST_PAIRS", 1_000)
    first = near_rows(near, rules, told=told)
    assert [line.split(" so many")[0] for line in told] == ["of 1200 rows"]
    assert [group for group in members(first) if group[0] >= 1200] == [[n, n + 100] for n in range(1400, 1500, 20)]


def test_check_says_that_near_rows_were_not_all_compared(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    table, _ = crowded()
    lines = [",".join([*table.names, "y"])]
    lines += [
        f"{','.join(map(str, cells))},{n % 2}" for n, cells in enumerate(zip(*table.columns.values(), strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "r.yaml").write_text("data: {source: t.csv, target: y}\nclean: {leaks: report}\nmodel: {use: linear}\n")
    for most, said in ((5_000_000, False), (1_000, True)):
        monkeypatch.setattr(module, "MOST_PAIRS", most)
        assert run(["check", str(tmp_path / "r.yaml"), "--workspace", str(tmp_path)]) == 0
        assert ("compared with its nearest ones only" in capsys.readouterr().out) is said


def test_rows_of_one_coarse_column_are_not_called_near() -> None:
    table = from_rows([{"grade": n % 5} for n in range(200)], ["grade"])
    assert members(near_rows(table, [ColumnRule("grade", "numeric")])) == []


def test_pictures_in_another_size_or_format_are_near() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (extra image)")
    from keepfit.cleaning.near_pictures import near_pictures

    rng = np.random.default_rng(0)

    def picture(place: int) -> bytes:
        waves = np.add.outer(np.sin(np.arange(48) / (3 + place)), np.cos(np.arange(48) / (2 + place)))
        return encoded(
            image.fromarray(np.uint8(127 + 30 * waves + rng.integers(0, 60, (6, 6)).repeat(8, 0).repeat(8, 1))), "PNG"
        )

    def encoded(made: object, kind: str) -> bytes:
        out = io.BytesIO()
        made.save(out, kind)  # type: ignore[attr-defined]
        return out.getvalue()

    made = [picture(place) for place in range(12)]
    made.append(encoded(image.open(io.BytesIO(made[2])), "JPEG"))
    made.append(encoded(image.open(io.BytesIO(made[4])).resize((96, 96)), "PNG"))
    made.append(encoded(image.open(io.BytesIO(made[4])).transpose(image.Transpose.FLIP_LEFT_RIGHT), "PNG"))
    assert members(near_pictures(made)) == [[2, 12], [4, 13]]


def test_pairs_are_joined_to_groups() -> None:
    assert joined(5, [(3, 1), (4, 3)]).tolist() == [0, 1, 2, 1, 1]
