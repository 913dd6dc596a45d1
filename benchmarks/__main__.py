"""Runs every benchmark in a process of its own; exit 1 when a goal is missed. Arguments are passed on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SLOW = ("big_csv", "images_quality", "tables_quality", "trainer_kills")  # minutes each


def main() -> int:
    """Run all of them, quick ones first."""
    names = sorted(
        (path.stem for path in HERE.glob("[a-z]*.py") if path.stem != "measuring"),
        key=lambda name: (name in SLOW, name),
    )
    codes = {}
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        codes[name] = subprocess.run(command, cwd=HERE.parent, check=False).returncode
    missed = [name for name, code in codes.items() if code]
    print(f"{len(codes)} benchmarks, {len(missed)} missed{': ' + ', '.join(missed) if missed else ''}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
