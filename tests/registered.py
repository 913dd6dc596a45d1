"""Bundles that differ by their card, for tests of the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

from keepfit.core import digest

GOLDEN = Path(__file__).parent / "data" / "golden_bundle"


def other(folder: Path, note: str) -> Path:
    """The golden bundle with another card, so with another hash."""
    made = folder / f"bundle-{note}"
    shutil.copytree(GOLDEN, made)
    (made / "card.md").write_text(note)
    sums = {name: digest.of_file(made / name) for name in (p.name for p in made.iterdir()) if name != "SHA256SUMS"}
    (made / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
    return made
