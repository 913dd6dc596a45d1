"""The process that watches a service, beside those that answer: told on standard input what is served; ends with its parent."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keepfit.serve.follow import Source
from keepfit.serve.live import Live
from keepfit.serve.settings import ServeSettings
from keepfit.serve.watched import watched_of
from keepfit.store.records import Records, records_folder

PAUSE_S, SHARE = 2.0, 0.1
"""It looks every `PAUSE_S`, and less often where looks take more than `SHARE` of the time of a core."""
_LINE = re.compile(r"^(keepfit_request[a-z_]*_(?:bucket|total))\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
log = logging.getLogger("keepfit.monitor")


class Asked:
    """Figures of the service itself, between one question and the next: requests a second, errors, time to an answer."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        self.host, self.port, self.headers = host, port, {"Authorization": f"Bearer {token}"} if token else {}
        self._before, self._at = self._scrape(), time.monotonic()

    def __call__(self) -> dict[str, Any] | None:
        """Since the last call; None where the service does not answer."""
        counted, moment = self._scrape(), time.monotonic()
        if counted is None:
            return None
        before, self._before = self._before or {}, counted
        seconds, self._at = max(moment - self._at, 1e-3), moment
        more = {name: max(n - before.get(name, 0.0), 0.0) for name, n in counted.items()}
        asked = sum(n for (what, label), n in more.items() if what == "code")
        failed = sum(n for (what, label), n in more.items() if what == "code" and label == "5xx")
        return {
            "requests_per_s": round(asked / seconds, 3),
            "errors": int(failed),
            "latency_s": {f"p{q}": _quantile(more, q / 100) for q in (50, 95, 99)},
        }

    def _scrape(self) -> dict[tuple[str, str], float] | None:
        line = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            line.request("GET", "/metrics", headers=self.headers)
            reply = line.getresponse()
            text = reply.read().decode() if reply.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()
        found: dict[tuple[str, str], float] = {}
        for name, labels, value in _LINE.findall(text):
            said = dict(_LABEL.findall(labels))
            route = said.get("route", "")
            if route == "/predict" or route.endswith("/infer"):
                what = "le" if name.endswith("_bucket") else "code"
                key = (what, said.get(what, ""))
                found[key] = found.get(key, 0.0) + float(value)
        return found


def _quantile(counted: Mapping[tuple[str, str], float], share: float) -> float | None:
    """Of a histogram's cumulative buckets, straight within a bucket; None where nothing was counted."""
    ends = sorted((float(label), n) for (what, label), n in counted.items() if what == "le")
    if not ends or ends[-1][1] <= 0:
        return None
    wanted, low, below = share * ends[-1][1], 0.0, 0.0
    for end, n in ends:
        if n >= wanted:
            inside = (wanted - below) / (n - below) if n > below else 1.0
            return round(low + (end - low) * inside, 6) if end != float("inf") else low
        low, below = end, n
    return low


def main() -> int:
    """Watch until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends this process once it has stopped itself
    os.nice(19)  # whoever waits for an answer comes first
    said = json.loads(sys.stdin.buffer.readline())
    settings = ServeSettings(**said["settings"])
    source = Source(Path(said["path"]) if said["path"] else None, said["reference"], Path(said["workspace"]))
    ending = threading.Event()
    threading.Thread(target=_end_with_parent, args=(ending,), daemon=True).start()
    place = settings.record_store or str(records_folder(source.workspace) / said["name"])
    live, serving, told = None, "", ""
    pause_s = 0.2
    while not ending.wait(pause_s):
        begun = time.process_time()
        try:
            if live is None:
                asked = Asked(said["host"], said["port"], settings.token)
                live = Live(Records.open(place), Path(said["folder"]), float(said["since"]), asked)
            version = source.version()
            sha256 = version.sha256 if version is not None else str(source.path)
            if sha256 != serving:
                if serving:
                    live.look(time.time())
                live.follow(watched_of(source.bundle(), settings.record == "full"))
                serving = sha256
            live.look(time.time())
            told = ""
        except Exception as error:  # whatever one look meets, the next one is tried
            if str(error) != told:
                log.error("the monitor cannot look: %s", error)
            told = str(error)
        pause_s = max(PAUSE_S, (time.process_time() - begun) / SHARE)
    return 0


def _end_with_parent(ending: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    ending.set()


if __name__ == "__main__":
    sys.exit(main())
