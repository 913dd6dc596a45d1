"""Pictures of a zip: which members count as one, and how they are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keepfit.modalities import archives
from keepfit.modalities.image.found import (
    MOST_BYTES,
    SIGNATURE_BYTES,
    Found,
    Refused,
    has_picture_ending,
    judged,
    why_no_picture,
)

PICTURES = archives.Kind("pictures", MOST_BYTES, SIGNATURE_BYTES, has_picture_ending, why_no_picture)


def from_zip(path: Path, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The pictures of a zip, sorted by name. Raises DataError at the call: no zip, an empty one, no classes."""
    found = archives.from_zip(path, PICTURES, loose=loose)

    def items() -> Iterator[Found | Refused]:
        for item, raw in found:
            if item.reason:
                yield Refused(item.name, item.reason)
                continue
            data = judged(item.name, raw)
            yield data if isinstance(data, Refused) else Found(item.name, item.label or None, item.part, data)

    return items()


def zip_has_pictures(path: Path) -> bool:
    """Whether some member has the ending of a picture. True for a damaged zip, so that reading it tells what is wrong."""
    return archives.zip_has(path, PICTURES)
