"""Events: everything a person may watch. Progress bars, logs and trackers are listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something happened at a step (`at`, the stage name); `data` is JSON."""

    at: str
    what: str
    data: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that ignores everything."""
