"""What an operator may set about the service; every limit that bounds memory and time is here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

MIB = 1 << 20


@dataclass(frozen=True)
class ServeSettings:
    """Where to listen, who may ask, and how much one client may ask for.

    `token` None means that anyone who reaches the port may ask. `concurrency` bounds the questions being read or answered at
    once, of which one client may hold three in four, `queue` those whose body is here, `queue_bytes` their bodies together, and
    as many bytes again those that are still coming; the next one gets 503 with Retry-After, and so does one that waited for
    `queue_timeout_s`. `batch_max` rows of several questions go through the model at once; `batch_wait_s` is how long the first
    waits for company. `threads` run large questions, pictures and texts. `workers` are processes on the same port. `poll_s` is
    how often the registry's pointer is looked at. `record` says what is kept of an answer, `record_store` in which database
    (files in the workspace when None), for at most `record_age_s` and `record_size_bytes`. With `new_classes` feedback may name
    a class that the model does not know.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    max_body_bytes: int = 16 * MIB
    max_rows: int = 10_000
    max_depth: int = 32
    concurrency: int = 512
    queue: int = 128
    queue_bytes: int = 256 * MIB
    queue_timeout_s: float = 10.0
    batch_max: int = 32
    batch_wait_s: float = 0.0
    threads: int = 2
    body_timeout_s: float = 30.0
    drain_timeout_s: int = 30
    workers: int = 1
    poll_s: float = 0.25
    record: Literal["full", "sketch", "off"] = "full"
    record_store: str | None = field(default=None, repr=False)
    record_age_s: float = 30 * 86_400.0
    record_size_bytes: int = 1 << 30
    new_classes: bool = False


def threads_each(workers: int) -> int:
    """The threads of one of `workers` processes: the cores that this program may use, shared out; two at least, so that a long
    question does not hold up all others."""
    return max(2, len(os.sched_getaffinity(0)) // workers)
