"""Writes tests/data/golden_bundle: run once for each bundle format, then never again; its answers must hold for ever."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_tables import made_run, mixed

import keepfit as kf

GOAL = Path(__file__).parents[1] / "data"

if __name__ == "__main__":
    if (GOAL / "golden_bundle").exists():
        raise SystemExit("there is one; a new format gets a new folder")
    rows = mixed(70, seed=60)
    with tempfile.TemporaryDirectory() as scratch:
        run = made_run(Path(scratch), rows=rows[:60])
        shutil.copytree(run.bundle, GOAL / "golden_bundle")
    asked = [*rows[60:], {**rows[0], "city": "Atlantis"}, dict.fromkeys(rows[0])]
    found = kf.load(GOAL / "golden_bundle").predict(asked).rows()
    (GOAL / "golden_bundle_answers.json").write_text(
        json.dumps(
            [{"input": row, **answer} for row, answer in zip(asked, found, strict=True)], ensure_ascii=False, indent=1
        ),
        "utf-8",
    )
