"""Writes a few hundred short made-up reviews, reviews.jsonl, with their labels: good, mixed or bad."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

EACH = 150
THINGS = ("room", "soup", "staff", "view", "bed", "breakfast", "pool", "price", "garden", "lift")
GOOD = ("lovely", "clean", "great", "friendly", "excellent", "worth every penny")
BAD = ("awful", "dirty", "poor", "rude", "dreadful", "a disappointment")
STARTS = ("", "Last week ", "As always, ", "For two nights: ", "With the children, ")


def review(chance: random.Random, kind: str) -> str:
    """Two clauses; a mixed review has one of each."""
    moods = {"good": (GOOD, GOOD), "bad": (BAD, BAD), "mixed": chance.choice([(GOOD, BAD), (BAD, GOOD)])}[kind]
    first, second = (f"the {chance.choice(THINGS)} was {chance.choice(mood)}" for mood in moods)
    return f"{chance.choice(STARTS)}{first} {'but' if kind == 'mixed' else 'and'} {second}."


def main(path: Path) -> None:
    """Write EACH reviews of each kind."""
    chance = random.Random(0)
    lines = [
        json.dumps({"text": review(chance, kind), "label": kind})
        for _ in range(EACH)
        for kind in ("good", "mixed", "bad")
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"wrote {len(lines)} reviews to {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "reviews.jsonl"))
