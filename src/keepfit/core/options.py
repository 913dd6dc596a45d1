"""Options are data: what a user may say about a part. The code they name is imported only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


def switch(value: object) -> object:
    """YAML reads a bare `off` as false: for fields that know the word."""
    return "off" if value is False else value


class Options(BaseModel):
    """Frozen and closed; `impl` is `module:attribute` of the code, empty for a plain recipe section."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    impl: ClassVar[str] = ""

    def files(self, folder: Path) -> list[Path]:
        """Files whose content the part depends on; relative paths are relative to `folder`."""
        return []
