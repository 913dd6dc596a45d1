"""What a user may say about the monitor."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from keepfit.core.options import Options

_SPELLING = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+)\s*(?:windows?)?\s*", re.IGNORECASE)


def budget(value: object) -> object:
    """`1/1000 windows` as it stands. Raises ValueError for anything else."""
    found = _SPELLING.fullmatch(str(value))
    if not found or not 0 < float(found[1]) / max(int(found[2]), 1) <= 0.2:
        raise ValueError("false alarms are said as 1/1000 windows: at least none, at most one in five")
    return f"{found[1]}/{found[2]} windows"


class MonitorOptions(Options):
    """What is called an alarm, and how many rows are looked at together."""

    false_alarms: Annotated[str, BeforeValidator(budget)] = Field(
        "1/1000 windows", description="false alarms of the whole monitor that are accepted, such as 1/1000 windows"
    )
    window: int = Field(500, ge=50, le=100_000, description="rows that are judged together")
    slices: list[str] = Field(default_factory=list, description="columns whose groups are followed one by one")

    @property
    def rate(self) -> float:
        """False alarms per window."""
        found = _SPELLING.fullmatch(self.false_alarms)
        return float(found[1]) / int(found[2]) if found else 0.001
