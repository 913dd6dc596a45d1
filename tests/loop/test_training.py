"""Challengers of texts and pictures are made from what a service recorded of them; what nobody foresaw ends an attempt."""

import base64
from pathlib import Path

import numpy as np
import pytest
from tests import made_pictures, made_texts

import keepfit as kf
from keepfit.loop import training
from keepfit.loop.attempts import Asked, Attempt
from keepfit.loop.gate import Side, examine
from keepfit.loop.rows import Labelled
from keepfit.recipe.retrain import GateOptions
from keepfit.store.registry import Registry


def asked(home: Path, recipe: str, *kinds: str) -> Asked:
    return Asked(str(home / recipe), (), str(home), "m", 1, kinds, 100, 0)


def labelled(inputs: list[dict[str, str]], labels: list[str]) -> list[Labelled]:
    return [
        Labelled(f"r{n}", 0, n, n, "", i, None, label) for n, (i, label) in enumerate(zip(inputs, labels, strict=True))
    ]


def attempt_of(home: Path, question: Asked, rows: list[Labelled]) -> Attempt:
    return Attempt.write(home / "attempt", question, rows[20:], rows[:20], [])


def test_texts(tmp_path: Path):
    first = made_texts.made_run(tmp_path)
    Registry(tmp_path).register(first.bundle, "m")
    found = made_texts.rows(200)[240:]
    rows = labelled([{"text": row["review"]} for row in found], [row["label"] for row in found])
    made = training.made(attempt_of(tmp_path, asked(tmp_path, "recipe.yaml", "fresh", "full"), rows))
    assert made.version == 2 and set(made.scores) == {"fresh", "full"} and max(made.scores.values()) > 0.8
    old, new = (Registry(tmp_path).get("m", version).open() for version in (1, 2))
    assert new.manifest["text_column"] == old.manifest["text_column"] == "review"


def test_pictures(tmp_path: Path):
    pytest.importorskip("torch")
    first = made_pictures.made_run(tmp_path)
    Registry(tmp_path).register(first.bundle, "m")
    kinds = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    inputs, labels = [], []
    for number in range(100, 140):
        for kind in kinds:
            data = made_pictures.png(made_pictures.pixels(number, kind))
            inputs.append({"image": base64.b64encode(data).decode()})
            labels.append(kind)
    made = training.made(attempt_of(tmp_path, asked(tmp_path, "shapes.yaml", "full"), labelled(inputs, labels)))
    assert made.version == 2 and made.scores["full"] is not None


def test_a_fault_that_nobody_foresaw_ends_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(attempt: Attempt) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(training, "made", broken)
    attempt = attempt_of(tmp_path, asked(tmp_path, "recipe.yaml", "full"), labelled([{"a": "1"}] * 30, ["x"] * 30))
    monkeypatch.setattr(training, "_NICE", 0)
    assert training.main(attempt.folder) == 0
    result = attempt.result()
    assert result is not None and not result.version and "no such thing" in result.error


def test_columns_that_are_sent_and_not_read_are_taken_by_the_next_champion_too(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=280).round(4)
    lines = [f"{value},same,{'yes' if value > 0 else 'no'}" for value in values[:140]]
    (tmp_path / "rows.csv").write_text("\n".join(["a,site,y", *lines]) + "\n")
    more = "model: {use: linear}\nclean: {leaks: 'off', duplicates: 'off'}\n"
    (tmp_path / "r.yaml").write_text(f"version: 1\nname: m\ndata: {{source: rows.csv, target: y}}\n{more}")
    Registry(tmp_path).register(kf.run(tmp_path / "r.yaml", workspace=tmp_path).bundle, "m")
    found = [({"a": str(value)}, "yes" if value > 0 else "no") for value in values[140:]]  # as recorded: without `site`
    rows = labelled([one for one, _ in found], [label for _, label in found])
    made = training.made(attempt_of(tmp_path, asked(tmp_path, "r.yaml", "fresh", "full"), rows))
    assert made.version, made.error
    old, new = (Registry(tmp_path).get("m", version) for version in (1, made.version))
    assert "site" in old.open().predictor().ignored == new.open().predictor().ignored
    assert examine(new, Side.open(old), rows[:20], GateOptions.model_validate({})).passed
