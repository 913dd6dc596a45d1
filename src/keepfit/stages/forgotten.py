"""What the report of a challenger says of rows from before the change: the champion's answers beside its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keepfit.tasks.wording import count, percent


def told(said: dict[str, Any], table: Callable[..., str]) -> str:
    """HTML: a heading, a paragraph and a table by class; nothing where nothing was measured. `table` writes one.

    `said` has `rows`, `champion`, `challenger` (shares of right answers) and the same `by_class`.
    """
    if not said:
        return ""
    words = (
        f"On {count(said['rows'])} rows from before the change, which this model did not learn from, the champion is right in "
        f"{percent(said['champion'])} and this model in {percent(said['challenger'])}. Where the world has changed, less is not "
        "worse: rows of before may have other answers today."
    )
    rows = [
        [name, count(one["rows"]), percent(one["champion"]), percent(one["challenger"])]
        for name, one in said["by_class"].items()
    ]
    headers = ("class", "rows", "champion", "this model")
    return f"<h3>What was forgotten</h3><p>{words}</p>" + table(
        "By class, rows from before", headers, rows, numbers=(1, 2, 3)
    )
