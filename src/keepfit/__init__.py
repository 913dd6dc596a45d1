"""Keepfit: one recipe, one command, one folder: from raw data to a served model that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keepfit.api import evaluate, fit, load, predict, registry, run

__version__ = "0.1.0"
__all__ = ["evaluate", "fit", "load", "predict", "registry", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from keepfit import api

        return getattr(api, name)
    raise AttributeError(f"module 'keepfit' has no attribute {name!r}")
