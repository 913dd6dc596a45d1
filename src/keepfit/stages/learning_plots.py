"""Pictures of how a model learned: a curve per round or epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keepfit.stages.plots import HALF, MAIN, MUTED, OTHER, Picture
from keepfit.tasks.wording import percent


def training_curve(facts: dict[str, Any]) -> Picture:
    """The metric per round or epoch on rows held out while learning, and on the rows learned from where it is known."""
    values, unit = facts["validation"], facts.get("unit", "round")

    def draw(axes: Any) -> None:
        if facts.get("train"):
            axes.plot(range(1, len(facts["train"]) + 1), facts["train"], color=MUTED, label="training")
        axes.plot(range(1, len(values) + 1), values, color=MAIN, label="validation")
        axes.axvline(facts["best"], color=OTHER, linewidth=1, linestyle="--", label=f"best: {facts['best']}")
        axes.set(xlabel=unit, ylabel=facts["metric"])
        axes.grid(True)
        axes.legend(fontsize=8)

    alt = f"{facts['metric']} on validation rows per {unit}; the best of {len(values)} {unit}s is {facts['best']}."
    return Picture("training_curve", "How it learned", alt, draw, 3.0, HALF)


def epochs(history: Sequence[dict[str, Any]]) -> Picture:
    """The validation accuracy and the learning rate of each epoch."""

    def draw(axes: Any) -> None:
        steps = [entry["epoch"] for entry in history]
        axes.plot(steps, [entry["accuracy"] for entry in history], color=MAIN, label="validation accuracy")
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.grid(True)
        rates = axes.twinx()
        rates.plot(steps, [entry["lr"] for entry in history], color=MUTED, linestyle=":", label="learning rate")
        rates.set_ylabel("learning rate")
        lines = [*axes.get_lines(), *rates.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], fontsize=8)

    best = max(entry["accuracy"] for entry in history)
    alt = f"Accuracy on validation rows after each of {len(history)} epochs, at most {percent(best)}; and the learning rate."
    return Picture("epochs", "Epoch by epoch", alt, draw, 3.0, HALF)
