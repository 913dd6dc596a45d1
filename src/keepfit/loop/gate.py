"""What a challenger must prove: it opens, fits, answers, is no slower or larger than allowed, loses no class, and is better."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepfit.core.errors import KeepfitError
from keepfit.loop.paired import LossTest, PairedTest
from keepfit.loop.rows import Labelled, table_of
from keepfit.recipe.retrain import GateOptions
from keepfit.runtime.answers import Answers
from keepfit.runtime.bundle import Bundle
from keepfit.store.registry import Version

_SMALL_BYTES = 5_000_000
"""A bundle of this size is small enough, however much smaller its champion is."""
_FEW = 20
"""Rows of a class or slice below which its floor says nothing."""


@dataclass(frozen=True)
class Verdict:
    """`passed` is None while more labels are needed; `reasons` say why it was refused; `evidence` is JSON."""

    passed: bool | None
    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """One of the two: its opened bundle and its predictor."""

    version: Version
    bundle: Bundle
    predictor: Any

    @classmethod
    def open(cls, version: Version) -> Side:
        """Hashes checked, golden rows replayed. Raises KeepfitError."""
        bundle = version.open()
        return cls(version, bundle, bundle.predictor())

    def answers(self, rows: Sequence[Labelled]) -> Answers:
        """The answers to recorded inputs."""
        names = [column.name for column in self.bundle.inputs]
        found: Answers = self.predictor.predict(table_of(rows, names, self.bundle.modality))
        return found


def examine(challenger: Version, champion: Side, rows: Sequence[Labelled], section: GateOptions) -> Verdict:
    """The bounds that need no proof by chance: schema, finite answers, size, latency. `rows` are recorded ones, labelled or not."""
    try:
        side = Side.open(challenger)
    except KeepfitError as error:
        return Verdict(False, (f"it does not open: {error.what} ({error.code})",))
    reasons = _schema(side, champion)
    evidence: dict[str, Any] = {}
    if not reasons and rows:
        try:
            mine, theirs = side.answers(rows), champion.answers(rows)
        except KeepfitError as error:
            return Verdict(False, (f"it cannot answer recorded rows: {error.what} ({error.code})",))
        reasons += _finite(mine, theirs)
        if not reasons:
            reasons += _bounds(side, champion, rows[-1:], section, evidence)
    return Verdict(not reasons, tuple(reasons), evidence)


def _schema(side: Side, champion: Side) -> list[str]:
    reasons = []
    if (side.bundle.task, side.bundle.modality) != (champion.bundle.task, champion.bundle.modality):
        reasons.append(f"it is for {side.bundle.task} of {side.bundle.modality} inputs")
    if side.bundle.target != champion.bundle.target:
        reasons.append(f"it predicts {side.bundle.target!r}, not {champion.bundle.target!r}")
    lost = [one for one in champion.bundle.classes if one not in side.bundle.classes]
    if lost:
        reasons.append(f"it does not know the classes {', '.join(map(str, lost[:5]))}")
    known = {column.name for column in champion.bundle.inputs}
    more = [column.name for column in side.bundle.inputs if column.name not in known]
    if more:
        reasons.append(f"it asks for inputs that nobody sends: {', '.join(more[:5])}")
    taken = {*known, *getattr(champion.predictor, "ignored", ())}
    lost = sorted(taken - {column.name for column in side.bundle.inputs} - set(getattr(side.predictor, "ignored", ())))
    if side.bundle.modality == "tabular" and lost:
        reasons.append(f"it refuses columns that the champion takes: {', '.join(lost[:5])}")
    return reasons


def _finite(mine: Answers, theirs: Answers) -> list[str]:
    broken = sum(bool(error) and not other for error, other in zip(mine.errors, theirs.errors, strict=True))
    if broken:
        return [f"it cannot answer {broken} recorded rows that the champion answers"]
    good = [not error for error in mine.errors]
    values = (
        mine.probabilities[good] if mine.probabilities is not None else [one for one in mine.labels if one is not None]
    )
    if not np.isfinite(np.asarray(values, float)).all():
        return ["it answers with numbers that are not finite"]
    return []


def _bounds(
    side: Side, champion: Side, row: Sequence[Labelled], section: GateOptions, evidence: dict[str, Any]
) -> list[str]:
    sizes = [sum(map(len, one.bundle.files.values())) for one in (side, champion)]
    paces: list[list[float]] = [[], []]
    for _ in range(15):
        for place, one in enumerate((side, champion)):
            begun = time.perf_counter()
            one.answers(row)
            paces[place].append(time.perf_counter() - begun)
    slower = statistics.median(mine / theirs for mine, theirs in zip(*paces, strict=True))
    evidence |= {"size_bytes": sizes[0], "size_ratio": round(sizes[0] / sizes[1], 3), "latency_ratio": round(slower, 3)}
    reasons = []
    if sizes[0] > section.size * sizes[1] and sizes[0] > _SMALL_BYTES:
        reasons.append(f"it is {sizes[0] / sizes[1]:.1f} times the champion's size; gate.size is {section.size:g}")
    milliseconds = 1000 * statistics.median(paces[0])
    if slower > section.latency and milliseconds > 2:
        reasons.append(f"it takes {slower:.1f} times the champion's time; gate.latency is {section.latency:g}")
    return reasons


class Trial:
    """Challenger against champion on labels that neither has learned from; ask after every label."""

    def __init__(self, challenger: Side, champion: Side, section: GateOptions, slices: Sequence[str] = ()) -> None:
        self.challenger, self.champion, self.section, self.slices = challenger, champion, section, slices
        self.labels = self.right = 0
        self.wrong: list[tuple[float, bool]] = []
        self.classes = challenger.bundle.task == "classification"
        self.better, self.worse = PairedTest(section.alpha, section.labels), PairedTest(section.alpha, section.labels)
        self._losses: list[tuple[float, float]] = []
        self._loss_tests: tuple[LossTest, LossTest] | None = None
        self._groups: dict[str, list[int]] = {}

    def add(self, rows: Sequence[Labelled]) -> None:
        """Takes newly labelled rows in."""
        if not rows:
            return
        mine, theirs = self.challenger.answers(rows), self.champion.answers(rows)
        self.labels += len(rows)
        self.wrong = [(row.at, one != row.label) for row, one in zip(rows, mine.labels, strict=True)]
        for row, one, other in zip(rows, mine.labels, theirs.labels, strict=True):
            if self.classes:
                self._add_class(row, one == row.label, other == row.label)
            elif one is not None and other is not None:
                self._add_losses(abs(one - float(row.label)), abs(other - float(row.label)))

    def _add_class(self, row: Labelled, right: bool, champion_right: bool) -> None:
        self.right += right
        self.better.add(right, champion_right)
        self.worse.add(champion_right, right)
        for name in (f"class {row.label}", *(f"{name} {row.inputs.get(name)}" for name in self.slices)):
            count = self._groups.setdefault(name, [0, 0, 0])
            count[0], count[1], count[2] = count[0] + 1, count[1] + right, count[2] + champion_right

    def _add_losses(self, mine: float, theirs: float) -> None:
        if self._loss_tests is None:
            self._losses.append((mine, theirs))
            if len(self._losses) < 30:
                return
            scale = max(float(np.quantile([other for _, other in self._losses], 0.95)), 1e-12)
            self._loss_tests = (LossTest(scale, self.section.alpha), LossTest(scale, self.section.alpha))
            return
        self._loss_tests[0].add(mine, theirs)
        self._loss_tests[1].add(theirs, mine)

    def verdict(self) -> Verdict:
        """What the labels so far say."""
        evidence = self.evidence()
        better, worse = self._sides()
        if better:
            lost = self._lost()
            return Verdict(not lost, tuple(lost), evidence)
        if worse:
            return Verdict(False, (f"it is worse than the champion on {self.labels} labels",), evidence)
        if self.labels >= self.section.labels:
            return Verdict(False, (f"{self.labels} labels do not show that it is better",), evidence)
        return Verdict(None, (), evidence)

    def _sides(self) -> tuple[bool, bool]:
        if self.classes:
            return self.better.better, self.worse.better
        return (self._loss_tests[0].better, self._loss_tests[1].better) if self._loss_tests else (False, False)

    def _lost(self) -> list[str]:
        """Classes and slices on which it loses more than the floor allows, beyond two standard errors."""
        found = []
        for name, (rows, mine, theirs) in sorted(self._groups.items()):
            gap = (theirs - mine) / rows
            if (
                rows >= _FEW
                and gap - 2 * (theirs / rows * (1 - theirs / rows) / rows) ** 0.5 > self.section.class_floor
            ):
                found.append(f"{name}: right on {mine} of {rows}, the champion on {theirs}")
        return found

    def evidence(self) -> dict[str, Any]:
        """Counts as JSON."""
        if self.classes:
            wins, losses = self.better.wins, self.better.losses
            return {"labels": self.labels, "wins": wins, "losses": losses, "right": self.right}
        tests = self._loss_tests
        return {"labels": self.labels, "log_wealth": round(tests[0].log_wealth, 3) if tests else 0.0}
