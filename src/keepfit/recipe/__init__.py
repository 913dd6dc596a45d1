"""The whole declaration: one closed model, one file per section, loaded from YAML with line numbers."""

from keepfit.recipe.load import load, parse
from keepfit.recipe.model import Recipe
from keepfit.recipe.render import fill

__all__ = ["Recipe", "fill", "load", "parse"]
