"""`keepfit up`: the line if there is no champion, the service, and the loop, until somebody stops it."""

from __future__ import annotations

import fcntl
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keepfit import recipe as recipes
from keepfit.core import atomic
from keepfit.core.errors import EnvironmentFault, KeepfitError, RecipeError, UsageError
from keepfit.core.events import Emit, Event
from keepfit.engine.plan import plan
from keepfit.engine.run import run as walk
from keepfit.loop.journal import Entry
from keepfit.loop.service import Service
from keepfit.loop.strategies import kinds_of
from keepfit.loop.turn import Loop
from keepfit.recipe.model import Recipe
from keepfit.runtime.sources import expand
from keepfit.store.artifacts import Store
from keepfit.store.registry import CHAMPION, Registry

LOOK_S = 0.5


def up(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    workspace: Path = Path("."),
    emit: Emit,
    stopped: Callable[[], bool],
    announce: Callable[[str], None],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Runs until `stopped` says so (or for `seconds`); gives the champion, what was decided, and how often.

    Raises RecipeError where the recipe forbids records, EnvironmentFault where another `up` of this name is at work.
    """
    recipe = recipes.load(path, overrides)
    refuse_unfit(recipe)
    with _alone(recipe.name, workspace):
        _first(recipe, workspace, emit, stopped)
        service = Service(recipe.name, workspace, recipe.serve.host, recipe.serve.port, _options(recipe))
        loop = Loop(recipe, path, overrides, workspace, lambda entry: emit(_event(entry)), mean_labels(recipe))
        until = None if seconds is None else time.monotonic() + seconds
        told = ""
        try:
            with _published(recipe, loop.registry, emit):
                while not stopped() and (until is None or time.monotonic() < until):
                    begun = time.monotonic()
                    _answering(service, emit, bool(told))
                    if told != service.url:
                        told = service.url
                        announce(told)
                    look(loop, emit)
                    time.sleep(max(0.02, LOOK_S - (time.monotonic() - begun)))
        finally:
            try:
                loop.close()
            finally:
                service.stop()
        return summary(loop)


def _published(recipe: Recipe, registry: Registry, emit: Emit) -> AbstractContextManager[object]:
    """While it is entered the registry is copied to the URL of the recipe after each move."""
    if not recipe.serve.publish:
        return nullcontext()
    from keepfit.store.mirror import Keeping, Mirror

    keeping = Keeping(Mirror(expand(recipe.serve.publish)), registry, recipe.name, emit, LOOK_S, push=True)
    keeping.look()
    return keeping


def _answering(service: Service, emit: Emit, began: bool) -> None:
    """A service that dies is started again, however often that fails; one that never answered is an error of the user's."""
    try:
        service.ensure()
    except KeepfitError as error:
        if not began:
            raise
        emit(_fault(error))
        time.sleep(LOOK_S)


def _fault(error: KeepfitError) -> Event:
    return Event("loop", "fault", {"code": error.code, "what": error.what, "where": error.where, "hint": error.hint})


def look(loop: Loop, emit: Emit) -> None:
    """One turn; a fault of one look is told and tried again at the next, since the service must go on."""
    request = loop.journal.folder / "retrain.request"
    asked = request.exists()
    try:
        if loop.turn(time.time(), asked) and asked:
            request.unlink(missing_ok=True)
    except KeepfitError as error:
        emit(_fault(error))
        time.sleep(LOOK_S)
    except Exception as error:
        with (loop.journal.folder / "faults.log").open("a") as log:
            traceback.print_exc(file=log)
        emit(Event("loop", "fault", {"code": "internal", "what": repr(error)[:300], "where": log.name, "hint": ""}))
        time.sleep(LOOK_S)


def ask(name: str, workspace: Path) -> Path:
    """Asks the loop that is at work for a challenger, by hand. Raises UsageError where none is at work."""
    folder = workspace / ".keepfit" / "loop" / name
    if not folder.is_dir() or not _is_at_work(folder):
        raise UsageError(
            "no_loop",
            f"no loop of {name} is at work in this workspace",
            where=str(folder),
            hint="start it first: keepfit up RECIPE; or give its --workspace",
        )
    atomic.write_text(folder / "retrain.request", "")
    return folder


def _is_at_work(folder: Path) -> bool:
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(handle)
    return False


def refuse_unfit(recipe: Recipe) -> None:
    """Raises RecipeError where the loop could never learn, or where the strategy does not fit the learner."""
    if recipe.serve.record != "full":
        raise RecipeError(
            "record_needed",
            "the loop learns from recorded inputs, and this recipe does not keep them",
            where="serve.record",
            seen=recipe.serve.record,
            hint="serve.record=full, or keepfit serve NAME@champion without the loop",
        )
    kinds_of(recipe.retrain.strategy, recipe, True)


def mean_labels(recipe: Recipe) -> float:
    """Labels between two false alarms, from the budget that the monitor has for its windows."""
    return float(recipe.monitor.window / recipe.monitor.rate)


def summary(loop: Loop) -> dict[str, Any]:
    """What the loop did, as JSON."""
    kinds = ("changed", "retrain", "promoted", "refused", "failed", "rolled_back", "quarantined")
    counts = {kind: sum(entry.what == kind for entry in loop.journal) for kind in kinds}
    return {
        "name": loop.name,
        "champion": loop.state.champion,
        "phase": loop.state.phase,
        "decisions": counts,
        "journal": str(loop.journal.path.resolve()),
    }


def _first(recipe: Recipe, workspace: Path, emit: Emit, stopped: Callable[[], bool]) -> None:
    """The whole line where there is no champion; what was made before it was killed is kept."""
    registry = Registry(workspace)
    if recipe.name in registry.names() and CHAMPION in registry.pointer(recipe.name).aliases:
        return
    done = walk(plan(recipe), Store(workspace), workspace / "runs", emit, stopped=stopped)
    if done.bundle is not None:
        registry.register(done.bundle, recipe.name, run=str(done.bundle.parent.resolve()))


def _options(recipe: Recipe) -> list[str]:
    """What the service is told; the rest stands in the recipe of the champion's bundle."""
    options = ["--record", "full", "--workers", str(recipe.serve.workers)]
    return [*options, *(["--token-env", recipe.serve.token_env] if recipe.serve.token_env else [])]


def _event(entry: Entry) -> Event:
    return Event("loop", entry.what, {"said": in_words(entry)})


def in_words(entry: Entry) -> str:
    """One line of the journal for a person."""
    said = entry.data
    if entry.what == "champion":
        return f"version {said['version']} answers" + (
            f", promoted over {said['before']}" if said.get("before") else ""
        )
    if entry.what in ("changed", "tolerated") and "error_after" in said:
        when = f", since {_moment(said['changed_at'])}" if "changed_at" in said else ""
        return f"errors {said['error_before']:.1%} before, {said['error_after']:.1%} on {said['labels']} labels{when}"
    if entry.what == "changed":
        shifted = said["seen"]["features"]
        what = "answers" if set(shifted) <= {"prediction", "confidence"} else "inputs"
        return f"{what} have shifted since {_moment(said['changed_at'])}: {', '.join(shifted[:5])}"
    if entry.what == "retrain":
        return f"attempt {said['attempt']} on {said['rows']} rows: {said['why']}; {' and '.join(said['kinds'])} compete"
    if entry.what == "challenger":
        scores = ", ".join(
            f"{kind} {score:.3f}" for kind, score in (said.get("scores") or {}).items() if score is not None
        )
        return (
            f"version {said['version']} ({said['kind']}); on the newest rows {scores}{_before(said.get('forgotten'))}"
        )
    if entry.what in ("promoted", "settled", "rolled_back"):
        evidence = said.get("evidence", {})
        return f"version {said['version']} after {evidence.get('labels', 0)} labels"
    if entry.what == "intends":
        return f"to {said['move']}: version {said['version']} in place of {said['before']}"
    if entry.what in ("refused", "failed"):
        return "; ".join(said.get("reasons", [])) or str(said.get("why", ""))
    return str(said.get("why", ""))[:200]


def _before(forgotten: dict[str, Any] | None) -> str:
    """What a challenger still knows of the old world."""
    if not forgotten:
        return ""
    return f"; on rows from before {forgotten['challenger']:.3f}, the champion {forgotten['champion']:.3f}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@contextmanager
def _alone(name: str, workspace: Path) -> Iterator[None]:
    """One loop for a name in a workspace. Raises EnvironmentFault where there is another."""
    folder = workspace / ".keepfit" / "loop" / name
    atomic.make_folder(folder)
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise EnvironmentFault(
                "loop_running",
                f"another loop of {name} is at work in this workspace",
                where=str(folder),
                hint="stop it, or give another --workspace",
            ) from None
        yield
    finally:
        os.close(handle)
