"""Puts folders on the path, so that tests share `made_tables` and `odd_pictures`; one finished run for those that only read it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # on a busy machine threads that spin made these runs 3 times slower
sys.path.insert(0, str(Path(__file__).parent / "runtime"))
sys.path.insert(0, str(Path(__file__).parent))

import made_pictures
import made_texts
from made_tables import made_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished linear run on 240 rows; read it, do not write."""
    return made_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def finished_pictures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished narrow network on 48 pictures in two folders; read it, do not write."""
    pytest.importorskip("torch", reason="torch is not installed (extra image)")
    return made_pictures.made_run(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def finished_texts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished tf-idf run on 240 short reviews in a CSV whose texts stand in `review`; read it, do not write."""
    return made_texts.made_run(tmp_path_factory.mktemp("texts"))
