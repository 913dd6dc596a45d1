"""Puts folders on the path, so that tests share `made_tables` and `odd_pictures`; one finished run for those that only read it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "runtime"))
sys.path.insert(0, str(Path(__file__).parent))

from made_tables import made_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished linear run on 240 rows; read it, do not write."""
    return made_run(tmp_path_factory.mktemp("finished"))
