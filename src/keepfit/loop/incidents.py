"""What happened when a promotion was taken back, in a file that a person can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.loop.rows import Labelled


def write(
    folder: Path, now: float, name: str, worse: int, back: int, evidence: dict[str, Any], wrong: Sequence[Labelled]
) -> Path:
    """The incident as JSON: which version was worse, on which evidence, and the answers that were wrong (request ids)."""
    moment = datetime.fromtimestamp(now, UTC)
    place = folder / "incidents" / f"{moment:%Y%m%dT%H%M%S}-{name}-{worse}.json"
    atomic.make_folder(place.parent)
    said = {
        "model": name,
        "at": moment.isoformat(),
        "what": f"version {worse} was worse than version {back} on live labels and was taken back",
        "worse": worse,
        "champion": back,
        "evidence": evidence,
        "wrong_answers": [row.request_id for row in wrong][:100],
        "next": f"keepfit why REQUEST_ID shows an answer's rows; keepfit models show {name}",
    }
    atomic.write_text(place, json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    return place
