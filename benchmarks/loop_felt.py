"""A challenger's training beside the service that answers: how much of it a client feels, on the same two cores.

One service on the first core and a client on the last, in rounds with the training process of the loop at work (two of them, so
that both cores are asked for) and with it stopped (SIGSTOP), in turn. `--mutant eager`: training has the priority of the service.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keepfit as kf
from benchmarks.load_client import press
from benchmarks.loop_gate import rows
from benchmarks.measuring import interval, is_quick, mutant, told
from benchmarks.serve_row import service
from keepfit.loop.attempts import Asked, Attempt
from keepfit.loop.rows import Labelled
from keepfit.store.registry import Registry

GOAL = "a training of the loop beside the service: answers per second and p99 of the service beside those without it"
ANCHORS = {"throughput": 0.8, "p99": 1.5}
EAGER = """
import os, sys
from pathlib import Path
os.nice = lambda more: 0
from keepfit.loop.training import main
sys.exit(main(Path(sys.argv[1])))
"""
MODEL = "model: {use: gbdt, params: {rounds: 20000, learning_rate: 0.003}}"
RECIPE = f"version: 1\nname: m\ndata: {{source: rows.csv, target: label}}\n{MODEL}\nclean: {{leaks: 'off'}}\n"


class Training:
    """Processes of attempts, two at a time, that can be stopped and sent on; one that ends is followed by another."""

    def __init__(self, home: Path) -> None:
        self.home, self.made = home, 0
        self.running: list[subprocess.Popen[bytes]] = []

    def go(self) -> None:
        """Two are at work."""
        self.running = [one for one in self.running if one.poll() is None]
        while len(self.running) < 2:
            self.running.append(self._begun())
        for one in self.running:
            os.killpg(one.pid, signal.SIGCONT)

    def stop(self) -> None:
        """None is."""
        for one in self.running:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGSTOP)

    def end(self) -> None:
        """They end."""
        for one in self.running:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()

    def _begun(self) -> subprocess.Popen[bytes]:
        self.made += 1
        given = [
            Labelled(f"r{n}", 0, n, n, "", {k: str(v) for k, v in row.items() if k != "label"}, None, row["label"])
            for n, row in enumerate(rows(50 + self.made, 4000))
        ]
        asked = Asked(str(self.home / "r.yaml"), (), str(self.home), "m", 1, ("fresh", "full"), 0, self.made)
        attempt = Attempt.write(self.home / f"attempt{self.made}", asked, given[500:], given[:500], [])
        if mutant() != "eager":
            return attempt.start()
        command = [sys.executable, "-c", EAGER, str(attempt.folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@contextmanager
def served(home: Path) -> Iterator[tuple[int, bytes]]:
    """A champion that answers; its port and a question."""
    some = rows(1, 1500)
    (home / "rows.csv").write_text("\n".join([",".join(some[0]), *(",".join(map(str, row.values())) for row in some)]))
    (home / "r.yaml").write_text(RECIPE.replace(", params: {rounds: 20000, learning_rate: 0.003}", ""))
    Registry(home).register(kf.run(home / "r.yaml", workspace=home).bundle, "m")
    (home / "r.yaml").write_text(RECIPE)
    asked = json.dumps({"input": {name: value for name, value in some[0].items() if name != "label"}}).encode()
    with service("-m", "keepfit", "serve", "m@champion", "--workspace", str(home), "--port", "0") as port:
        yield port, asked


def main() -> int:
    """Pairs of rounds."""
    pairs, seconds = (3, 2.0) if is_quick() else (9, 3.0)
    with tempfile.TemporaryDirectory(prefix="keepfit-felt-") as scratch, served(Path(scratch)) as (port, asked):
        training, found = Training(Path(scratch)), []
        press(port, asked, 8, 1.0)
        try:
            for _ in range(pairs):
                training.go()
                beside = press(port, asked, 8, seconds)
                training.stop()
                found.append((beside, press(port, asked, 8, seconds)))
        finally:
            training.end()
    seen = {
        "throughput": [one["answers_per_s"] / other["answers_per_s"] for one, other in found],
        "p99": [one["p99_ms"] / other["p99_ms"] for one, other in found],
    }
    intervals = {name: interval(values) for name, values in seen.items()}
    lost = sum(one["refused"] + one["failed"] + other["refused"] + other["failed"] for one, other in found)
    passed = intervals["throughput"][0] >= ANCHORS["throughput"] and intervals["p99"][1] <= ANCHORS["p99"] and not lost
    middle = {name: round(statistics.median(values), 3) for name, values in seen.items()}
    return told(
        GOAL, middle, ANCHORS, passed, interval=intervals, pairs=pairs, lost=lost, mutant=mutant(), rounds=found
    )


if __name__ == "__main__":
    sys.exit(main())
