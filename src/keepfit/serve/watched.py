"""What the monitor of a service knows of the model that answers, and how it is kept over a restart."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from keepfit.monitor import MonitorOptions, Profile
from keepfit.monitor.report import Story
from keepfit.monitor.stored import answers_only
from keepfit.monitor.streams import Watch, watch_of
from keepfit.serve.figures import MAX_FEATURES

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle

KEPT = 300
_COUNTED = ("windows", "rows", "faults", "labels")


@dataclass
class Watched:
    """One version. `windows` are (first answer, just after the last, its entry in the story); `recent` are the errors of the last
    labels, and `since_rang` how many came since they rang; `named` are the features that have a label of their own."""

    name: str
    version: str
    sha256: str
    section: MonitorOptions
    profile: Profile | None
    story: Story | None
    windows: deque[tuple[float, float, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=KEPT))
    watch: Watch | None = None
    recent: deque[bool] = field(default_factory=deque)
    since_rang: int | None = None
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _COUNTED})
    last: dict[str, Any] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    judged: int = 0

    def state(self) -> dict[str, Any]:
        """All that `resume` needs, as JSON."""
        return {
            "sha256": self.sha256,
            "story": self.story.state() if self.story is not None else None,
            "spans": [[since, until] for since, until, _ in self.windows],
            "watch": self.watch.as_json() if self.watch is not None else None,
            "recent": list(self.recent),
            "since_rang": self.since_rang,
            "counts": {name: dict(count) for name, count in self.counts.items()},
            "last": self.last,
            "named": self.named,
            "judged": self.judged,
        }

    def resume(self, raw: Mapping[str, Any]) -> None:
        """Go on where `state` was given for the same version. Raises KeyError, TypeError, ValueError for another shape."""
        if self.story is not None and raw["story"] is not None:
            self.story.resume(raw["story"])
            last = self.story.windows[-len(raw["spans"]) :] if raw["spans"] else []
            self.windows.extend((*span, one) for span, one in zip(raw["spans"], last, strict=True))
        self.watch = Watch.from_json(raw["watch"]) if raw["watch"] is not None else None
        self.recent, self.since_rang = deque(map(bool, raw["recent"])), raw["since_rang"]
        self.counts = {name: Counter(raw["counts"][name]) for name in _COUNTED}
        self.last, self.named, self.judged = dict(raw["last"]), list(raw["named"]), int(raw["judged"])


def watched_of(bundle: Bundle, keeps_inputs: bool) -> Watched:
    """A bundle to be watched. One without a reference is watched by its labels alone."""
    try:
        section = MonitorOptions.model_validate(bundle.manifest.get("monitor") or {})
    except ValidationError:
        section = MonitorOptions.model_validate({})
    raw = json.loads(bundle.files["profile.json"]).get("monitor")
    profile = Profile.from_json(raw) if raw is not None else None
    if profile is not None and not keeps_inputs:
        profile = answers_only(profile)
    story = Story(profile, section, f"{bundle.name} {bundle.version}", KEPT) if profile is not None else None
    made = Watched(bundle.name, bundle.version, bundle.sha256, section, profile, story)
    if profile is not None:
        if profile.labels:
            made.watch = watch_of(profile.errors, profile.labels)
        features = [feature.name for feature in (*profile.outputs, *profile.inputs)]
        outputs = [feature.name for feature in profile.outputs]
        made.named = features if len(features) <= MAX_FEATURES else outputs
    return made
