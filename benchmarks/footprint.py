"""How many distributions `pip install keepfit` and `keepfit[tables]` bring, counted from the metadata of what is installed.

`--mutant networks` counts the networks' libraries among those of tables: it must miss the goal.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.measuring import mutant, told

GOAL = "pip install keepfit brings at most 30 distributions, keepfit[tables] at most 55"


def brought(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """A distribution and everything that it needs, with these extras of it."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(name), extras)]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        for text in requires(one[0]) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *one[1]}):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))
    return {found for found, _ in seen}


def main() -> int:
    """Count both installs."""
    try:
        more = {"tables", "networks"} if mutant() == "networks" else {"tables"}
        core, tables = brought("keepfit"), brought("keepfit", frozenset(more))
    except PackageNotFoundError as error:
        return told(GOAL, None, [30, 55], None, skipped=f"not installed: {error.name}")
    return told(
        GOAL,
        [len(core), len(tables)],
        [30, 55],
        len(core) <= 30 and len(tables) <= 55 and "torch" not in tables,
        has_torch="torch" in tables,
    )


if __name__ == "__main__":
    sys.exit(main())
