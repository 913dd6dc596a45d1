"""What the command line knows and this version does not do yet: one table, refused by name."""

from __future__ import annotations

from typing import NoReturn

NOT_YET = {
    "explain": "why the model answered so",
    "compress": "make a bundle smaller and faster",
    "export": "other formats of a bundle",
    "label": "annotation in the browser",
    "ui": "the web console",
}


def refuse(name: str, hint: str = "keepfit --help lists what is") -> NoReturn:
    """Raise UsageError `not_available` for a key of the table."""
    from keepfit.core.errors import UsageError

    raise UsageError("not_available", f"keepfit {name} is not available yet: {NOT_YET[name]}", hint=hint)
