"""Request ids that say when they were given and for how many rows, and prove that they were given here: no index is needed.

16 bytes as 32 hex digits: time in ms (44 bits), rows (14), writer (16), count (22), keyed BLAKE2b of these (32).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import time
from dataclasses import dataclass

_TIME, _ROWS, _WRITER, _COUNT = 44, 14, 16, 22
MANY = (1 << _ROWS) - 1  # stands for as many rows or more
_HEAD_BYTES, _MAC_BYTES = 12, 4


@dataclass(frozen=True)
class Given:
    """What an id says: when it was given (Unix seconds) and for how many rows; `rows` is None for MANY or more."""

    at: float
    rows: int | None


class RequestIds:
    """Gives ids and knows its own; every process of a service has one with the same `key`."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._writer = secrets.randbits(_WRITER)
        self._count = itertools.count(secrets.randbits(_COUNT))

    def new(self, rows: int, at: float | None = None) -> str:
        """The id of an answer of `rows` rows."""
        moment = int((time.time() if at is None else at) * 1000) & ((1 << _TIME) - 1)
        number = (moment << _ROWS) | min(rows, MANY)
        number = (number << _WRITER) | self._writer
        number = (number << _COUNT) | (next(self._count) & ((1 << _COUNT) - 1))
        head = number.to_bytes(_HEAD_BYTES, "big")
        return (head + self._mac(head)).hex()

    def read(self, request_id: str) -> Given | None:
        """What an id says, None where it was not given with this key."""
        if len(request_id) != 2 * (_HEAD_BYTES + _MAC_BYTES) or not request_id.isascii():
            return None
        try:
            raw = bytes.fromhex(request_id)
        except ValueError:
            return None
        head, mac = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
        if not hmac.compare_digest(mac, self._mac(head)) or request_id != raw.hex():
            return None
        number = int.from_bytes(head, "big") >> (_WRITER + _COUNT)
        rows = number & ((1 << _ROWS) - 1)
        return Given((number >> _ROWS) / 1000, None if rows == MANY else rows)

    def _mac(self, head: bytes) -> bytes:
        return hashlib.blake2b(head, key=self._key, digest_size=_MAC_BYTES).digest()
