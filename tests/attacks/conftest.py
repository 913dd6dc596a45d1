"""The folder of these tests is importable; see watched.py."""

from __future__ import annotations

import sys
from pathlib import Path

for place in (Path(__file__).parent, Path(__file__).parents[1] / "serve"):
    sys.path.insert(0, str(place))
