"""Opens what is to be served, and follows the registry's pointer: a new model is opened beside, checked, then switched to."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from keepfit.core.errors import KeepfitError, from_os_error
from keepfit.core.events import Emit, Event
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.opening import Predictor
from keepfit.serve.service import Current, Service
from keepfit.store.registry import Registry, Version

RETRY_S = 30.0
log = logging.getLogger("keepfit.serve")


@dataclass(frozen=True)
class Source:
    """What is served: the bundle at `path`, or a registered model by `reference` (NAME, NAME@ALIAS or NAME@NUMBER)."""

    path: Path | None = None
    reference: str = ""
    workspace: Path = Path()

    @property
    def follows(self) -> bool:
        """Whether another model may come: an alias moves, a folder and a number do not."""
        return bool(self.reference) and not self.reference.partition("@")[2].isdigit()

    def version(self) -> Version | None:
        """The registered version that is to answer. Raises UsageError, EnvironmentFault."""
        return Registry(self.workspace).resolve(self.reference) if self.path is None else None

    def bundle(self) -> Bundle:
        """The bundle, every hash checked."""
        version = self.version()
        return Bundle.open(self.path) if self.path is not None else registered(version)


def registered(version: Version | None) -> Bundle:
    """The bundle of a version, which answers under the name and number that it has in the registry."""
    if version is None:
        raise ValueError("neither a folder nor a registered model")
    bundle = version.open()
    return replace(bundle, manifest={**bundle.manifest, "name": version.name, "version": str(version.version)})


class Follower:
    """A thread that looks at the pointer every `poll_s` and swaps; `emit` hears `swapped` and `swap_refused`.

    A bundle that is damaged, or whose golden rows give other answers, leaves the old one serving; it is tried again when the
    pointer moves, and every 30 s.
    """

    def __init__(self, source: Source, current: Current, emit: Emit, poll_s: float = 0.25) -> None:
        self._source, self._current, self._emit, self._poll_s = source, current, emit, poll_s
        self._registry = Registry(source.workspace)
        self._path = self._registry.pointer_path(source.reference.partition("@")[0])
        self._seen: tuple[int, int, int] | None = None
        self._failed_at: float | None = None
        self._retired: list[Service] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="keepfit-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._ending.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ending.wait(self._poll_s):
            if self._retired:  # freed here, where no request waits for it
                self._retired.clear()
                gc.collect(0)
            self.look()

    def look(self) -> None:
        """Swap if the pointer moved since the last look, or if the last try failed a while ago."""
        stamp = self._stamp()
        again = self._failed_at is not None and time.monotonic() - self._failed_at >= RETRY_S
        if stamp == self._seen and not again:
            return
        moved, self._seen = stamp != self._seen, stamp
        reference = self._source.reference
        begun = time.monotonic()
        try:
            version = self._registry.resolve(reference)
            reference = version.reference
            if version.sha256 != self._current.service.bundle.sha256 or _number(self._current) != str(version.version):
                bundle, predictor = self._opened(version)
                self._retired.append(self._current.swap(bundle, predictor))
                seconds = round(time.monotonic() - begun, 3)
                self._emit(
                    Event("serve", "swapped", {"model": reference, "sha256": version.sha256, "seconds": seconds})
                )
            self._failed_at, self._current.refusal = None, None
        except (KeepfitError, OSError, MemoryError) as error:
            self._refused(reference, error, moved)

    def _opened(self, version: Version) -> tuple[Bundle, Predictor]:
        bundle = registered(version)
        return bundle, bundle.predictor()

    def _refused(self, reference: str, error: KeepfitError | OSError | MemoryError, moved: bool) -> None:
        self._failed_at = time.monotonic()
        if isinstance(error, MemoryError):
            error = OSError(12, "too little memory")
        fault = error if isinstance(error, KeepfitError) else from_os_error(error, "opening the model")
        self._current.refused(reference, fault)
        if moved:
            log.error("%s is refused, the model before goes on answering: %s", reference, fault)
            self._emit(Event("serve", "swap_refused", {"model": reference, **fault.as_json()}))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _number(current: Current) -> str:
    return current.service.bundle.version
