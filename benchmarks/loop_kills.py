"""kill -9 at random moments: of the service, of the process that retrains, of the loop, and of all of them at once.

Rows are sent to `keepfit up` all the while and the world changes again and again, so that kills fall into trainings, trials,
promotions and probations. After each kill whatever is dead of the loop is started again, and these must hold: the service answers
with the registry's champion; that champion is the one of before the kill, or one that the journal says was promoted since; the
registry opens every version; and in the end every truth that was acknowledged is on the disk. `--mutant forgets` drops the last
line of feedback at each kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import is_quick, mutant, told
from keepfit.loop.journal import Journal
from keepfit.loop.state import state_of
from keepfit.store.records import Records
from keepfit.store.registry import CHAMPION, Registry

GOAL = "50 kills of service, retraining, loop and everything: the right champion answers, nothing acknowledged is lost"
KILLS = 8 if is_quick() else 50
KINDS = ("service", "training", "loop", "everything")
NAME, BATCH, LATE, WORLD, PACE_S = "stream", 10, 4, 5000, 0.1
RECIPE = """version: 1
name: stream
data: {source: first.csv, target: y}
model: {use: linear}
retrain: {rows: 120, cool_down: 0.5s, strategy: fresh, gate: {probation: 300}}
"""


def main() -> int:
    """One JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        try:
            story.play()
            found = story.verdict()
        finally:
            story.end()
    good = (
        not found["lost_labels"] and not found["wrong_champion"] and not found["unreadable"] and found["promoted"] > 0
    )
    return told(GOAL, found, {"lost_labels": 0, "wrong_champion": 0, "unreadable": 0}, bool(good))


def rows_of(count: int, flipped: bool, seed: int) -> list[tuple[dict[str, float], str]]:
    """Rows whose label follows from `a`; flipped it is the other one. One in twenty is wrong."""
    draw = np.random.default_rng(seed)
    values, wrong = draw.normal(size=(count, 2)).round(4), draw.random(count) < 0.05
    return [
        ({"a": float(a), "b": float(b)}, "yes" if ((a > 0) != flipped) != w else "no")
        for (a, b), w in zip(values, wrong, strict=True)
    ]


class Story:
    """The processes, what was acknowledged, and what was wrong."""

    def __init__(self, home: Path) -> None:
        self.home, self.draw = home, random.Random(1)
        lines = ["a,b,y", *(f"{x['a']},{x['b']},{y}" for x, y in rows_of(400, False, 99))]
        (home / "first.csv").write_text("\n".join(lines) + "\n")
        (home / "recipe.yaml").write_text(RECIPE)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.labels: dict[str, list[str]] = {}
        self.waiting: deque[tuple[str, list[str]]] = deque()
        self.kills: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.unreadable: list[str] = []
        self.recovery_s: list[float] = []
        self.sent = self.refused = 0
        self.champion = 1

    def play(self) -> None:
        """Rows and kills in turn."""
        self.start()
        flips, number = 0, 0
        due = time.monotonic() + 5
        while sum(self.kills.values()) < KILLS:
            for start in range(0, WORLD, BATCH):
                rows = rows_of(WORLD, flips % 2 == 1, number)[start : start + BATCH]
                begun = time.monotonic()
                self.send(rows)
                if time.monotonic() > due and sum(self.kills.values()) < KILLS:
                    self.kill()
                    due = time.monotonic() + self.draw.uniform(0.5, 14)
                time.sleep(max(0.0, PACE_S - (time.monotonic() - begun)))
            flips, number = flips + 1, number + 1

    def start(self) -> None:
        """`keepfit up`, until it answers."""
        log = (self.home / "up.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "keepfit",
            "up",
            "recipe.yaml",
            f"serve.port={self.port}",
            "--workspace",
            ".",
            "--json",
        ]
        self.process = subprocess.Popen(command, cwd=self.home, stdout=subprocess.DEVNULL, stderr=log)
        self.wait()

    def wait(self) -> None:
        """Until an answer comes."""
        until = time.monotonic() + 180
        while time.monotonic() < until:
            place = self.home / ".keepfit" / "loop" / NAME / "service.json"
            try:
                self.port = int(json.loads(place.read_text())["port"]) or self.port
                if self.port and self.ask() is not None:
                    return
            except (OSError, ValueError, KeyError):
                pass
            if self.process is not None and self.process.poll() is not None:
                raise SystemExit(f"keepfit up ended: {(self.home / 'up.log').read_text()[-2000:]}")
            time.sleep(0.05)
        raise SystemExit(f"no answer: {(self.home / 'up.log').read_text()[-2000:]}")

    def ask(self) -> int | None:
        """The version that answers."""
        said = self.post("predict", {"input": {"a": 1.0, "b": 0.0}})
        return None if said is None else int(said["model"]["version"])

    def post(self, route: str, value: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where there was none: nothing was acknowledged."""
        data = json.dumps(value).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{route}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                found: dict[str, Any] = json.loads(reply.read())
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def send(self, rows: list[tuple[dict[str, float], str]]) -> None:
        """Some rows, and the truth of earlier ones; what was acknowledged is written down."""
        said = self.post("predict", {"inputs": [x for x, _ in rows]})
        self.sent += 1
        if said is None:
            self.refused += 1
            return
        self.waiting.append((said["request_id"], [y for _, y in rows]))
        while len(self.waiting) > LATE:
            name, labels = self.waiting.popleft()
            if self.post("feedback", {"request_id": name, "labels": labels}) is not None:
                self.labels[name] = labels

    def kill(self) -> None:
        """One kill, and what must hold after it."""
        kind = KINDS[sum(self.kills.values()) % len(KINDS)]
        found = self.processes()
        if found["training"] and self.draw.random() < 0.15:
            kind = "training"  # it is rare, and may be killed wherever it is
        elif kind == "training" and not found["training"]:
            kind = "service"
        before = self.pointer()
        for one in found if kind == "everything" else [kind]:
            for pid in found[one]:
                with_child = pid == (self.process.pid if self.process else 0)
                os.kill(pid, signal.SIGKILL)
                if with_child and self.process is not None:
                    self.process.wait()
        self.kills[kind] += 1
        if mutant() == "forgets":
            self.forget()
        begun = time.monotonic()
        if kind in ("loop", "everything"):
            self.start()
        else:
            self.wait()
        self.recovery_s.append(time.monotonic() - begun)
        self.check(kind, before)
        print(
            sum(self.kills.values()), kind, f"{self.recovery_s[-1]:.1f} s", self.champion, file=sys.stderr, flush=True
        )

    def processes(self) -> dict[str, list[int]]:
        """Process ids by kind, of this workspace."""
        found: dict[str, list[int]] = {
            "service": [],
            "training": [],
            "loop": [self.process.pid] if self.process else [],
        }
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                home = os.readlink(place / "cwd")
            except OSError:
                continue
            if home != str(self.home.resolve()):
                continue
            if "keepfit.loop.training" in words:
                found["training"].append(int(place.name))
            elif "serve" in words:
                found["service"].append(int(place.name))
        return found

    def pointer(self) -> int:
        """The champion that the registry says."""
        return Registry(self.home).pointer(NAME).aliases[CHAMPION]

    def check(self, kind: str, before: int) -> None:
        """The champion that answers is the registry's, and it is the one of before or one that the journal knows of."""
        until, answers, champion = time.monotonic() + 20, None, 0
        while time.monotonic() < until:
            champion, answers = self.pointer(), self.ask()
            if answers == champion == self.pointer():
                break
            time.sleep(0.1)
        if answers != champion:
            self.wrong.append(f"{kind}: {answers} answers, the registry says {champion}")
        moves, until = {before}, time.monotonic() + 20
        while champion not in moves and time.monotonic() < until:  # the line of a move follows it within a look
            moves |= self.moves()
            time.sleep(0.1)
        if champion not in moves:
            self.wrong.append(f"{kind}: {champion} answers, and nothing says why")
        for version in Registry(self.home).versions(NAME):
            try:
                version.open()
            except Exception as error:  # whatever it is, it is what is looked for
                self.unreadable.append(f"version {version.version}: {error!r}"[:200])
        self.champion = champion

    def moves(self) -> set[int]:
        """Every version that the journal has seen as champion."""
        found = set()
        for line in (self.home / ".keepfit" / "loop" / NAME / "journal.jsonl").read_bytes().split(b"\n")[:-1]:
            said = json.loads(line)
            if said["what"] in ("champion", "promoted", "rolled_back"):
                found.add(int(said["version"]))
        return found

    def forget(self) -> None:
        """Drops the last line of feedback."""
        places = [place for place in (self.home / ".keepfit" / "records").rglob("*") if "feedback" in str(place)]
        files = [place for place in places if place.is_file() and place.stat().st_size]
        if files:
            last = max(files, key=lambda place: place.stat().st_mtime)
            lines = last.read_bytes().splitlines(keepends=True)
            last.write_bytes(b"".join(lines[:-1]))

    def verdict(self) -> dict[str, Any]:
        """What is on the disk in the end."""
        self.end()
        kept: dict[str, list[Any]] = {}
        for entry in Records.open(NAME, self.home).feedback():
            kept[entry["id"]] = entry["labels"]
        lost = [name for name, labels in self.labels.items() if kept.get(name) != labels]
        journal = Journal(self.home, NAME)
        counted = Counter(entry.what for entry in journal)
        if state_of(journal).champion != self.pointer():
            self.wrong.append(f"the journal says {state_of(journal).champion}, the registry {self.pointer()}")
        return {
            "kills": dict(self.kills),
            "acknowledged_labels": len(self.labels),
            "lost_labels": len(lost),
            "wrong_champion": self.wrong,
            "unreadable": self.unreadable,
            **{what: counted[what] for what in ("retrain", "promoted", "refused", "rolled_back", "failed")},
            "versions": len(Registry(self.home).versions(NAME)),
            "unanswered_batches": f"{self.refused} of {self.sent}",
            "recovery_s": {
                "median": round(float(np.median(self.recovery_s)), 2),
                "most": round(max(self.recovery_s), 2),
            },
        }

    def end(self) -> None:
        """Stops what was started, by its own process ids."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pid in (pid for some in self.processes().values() for pid in some):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    sys.exit(main())
