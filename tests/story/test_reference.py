"""The reference in `docs/` says what the models say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = maker.page()
    keys = [line.split("|") for line in made.splitlines() if line.startswith("| `")]
    assert len(keys) >= 45
    assert all(key[4].strip() or key[1].strip() == "`model.use`" for key in keys), "a key without a description"
    assert maker.HERE.read_text("utf-8") == made, "run: make docs"
