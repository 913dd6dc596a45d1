"""Takes the socket, opens the bundle and runs the web server until it is told to stop."""

from __future__ import annotations

import errno
import gc
import ipaddress
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

import uvicorn

from keepfit.core.errors import EnvironmentFault, UsageError
from keepfit.core.events import Emit, silent
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.opening import Predictor
from keepfit.serve import wire
from keepfit.serve.app import app_of
from keepfit.serve.follow import Follower, Source
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings
from keepfit.serve.watching import monitor_folder, watched
from keepfit.serve.workers import supervise
from keepfit.store.record_files import Backend, FileRecords
from keepfit.store.recorder import Limits, Recorder
from keepfit.store.records import records_folder

BACKLOG = 2048
KEEP_ALIVE_S, OWN_FILES = 75, 128
# A row of many columns is thousands of objects that die by themselves: at the usual thresholds looking for garbage took a tenth
# of the time of an answer.
GARBAGE = (50_000, 20, 50)


def serve(source: Source, settings: ServeSettings, announce: Callable[[str], None], emit: Emit = silent) -> None:
    """Serve a bundle or a registered model until SIGTERM or SIGINT; requests in flight are answered first.

    `announce` gets one line, `NAME VERSION answers at URL`, when questions are taken; `emit` hears of swaps. Raises UsageError for
    an address that is open to others without a token, EnvironmentFault `port_taken`, and what opening the bundle raises.
    """
    with take_socket(settings) as taken:
        if settings.workers == 1:
            work(taken, source, settings, announce, emit)
            return
        bundle = source.bundle()
        bundle.predictor()  # a mistake shows here, once, and not in every worker
        with watched(taken, bundle.name, source, settings):
            supervise(taken, source, settings, announce, _line(bundle, taken))


def work(
    taken: socket.socket, source: Source, settings: ServeSettings, announce: Callable[[str], None], emit: Emit
) -> None:
    """Answer in this process: open, record, follow the pointer; see `serve`."""
    bundle = source.bundle()
    predictor = bundle.predictor()
    recorder = _recorder(bundle.name, source, settings)
    alone = settings.workers == 1  # several processes have one monitor, which their parent starts
    watching = watched(taken, bundle.name, source, settings) if alone else nullcontext()
    try:
        current = Current(bundle, predictor, settings, recorder)
        if recorder is not None:
            current.meters.watch(monitor_folder(source.workspace, bundle.name) / "figures.json")
        del bundle, predictor  # a model that was swapped away must be freed
        follower = Follower(source, current, emit, settings.poll_s) if source.follows else None
        if follower is not None:
            follower.start()
        try:
            with watching:
                _run(taken, current, announce)
        finally:
            if follower is not None:
                follower.stop()
    finally:
        if recorder is not None:
            recorder.close()


def answer_on(
    taken: socket.socket, bundle: Bundle, predictor: Predictor, settings: ServeSettings, announce: Callable[[str], None]
) -> None:
    """Answer for one bundle on a listening socket until told to stop, without records; see `serve`."""
    _run(taken, Current(bundle, predictor, settings), announce)


def _recorder(name: str, source: Source, settings: ServeSettings) -> Recorder | None:
    if settings.record == "off":
        return None
    backend: Backend
    if settings.record_store:
        from keepfit.store.sql_records import SqlRecords

        backend = SqlRecords(settings.record_store)
    else:
        backend = FileRecords(records_folder(source.workspace) / name)
    return Recorder(backend, settings.record, Limits(settings.record_age_s, settings.record_size_bytes))


def _line(bundle: Bundle, taken: socket.socket) -> str:
    return f"{bundle.name} {bundle.version} answers at {address(taken)}"


def _run(taken: socket.socket, current: Current, announce: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        app_of(current),
        http=wire.protocol(most_lines=_lines()),
        ws="none",  # a connection that is handed to another protocol would leave its limits and never be given back
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=current.settings.drain_timeout_s,
    )
    server = uvicorn.Server(config)
    gc.collect()
    gc.freeze()  # what is here stays: going over it took 0.1 s of everybody's time
    gc.set_threshold(*GARBAGE)
    with _stop_quietly(server):
        announce(_line(current.service.bundle, taken))
        server.run(sockets=[taken])


def _lines() -> int:
    """How many connections there may be: the files that the system gives at most, less those of models and records."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wire.MOST_LINES if hard == resource.RLIM_INFINITY else min(hard, wire.MOST_LINES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # where that is not granted the limit of before holds
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return max(most if soft == resource.RLIM_INFINITY else min(soft, most) - OWN_FILES, OWN_FILES)


def take_socket(settings: ServeSettings) -> socket.socket:
    """A listening socket, taken before the slow work so that a mistake shows at once."""
    family, where = _resolve(settings)
    if settings.token is not None and not settings.token.strip():
        raise UsageError(
            "token_empty",
            "the token is empty",
            where="serve.token_env",
            hint="set the token's variable, or remove token_env",
        )
    if settings.token is None and not ipaddress.ip_address(where[0].partition("%")[0]).is_loopback:
        raise UsageError(
            "token_needed",
            "listening for other machines needs a token",
            where=f"host {settings.host}",
            hint="set serve.token_env and its variable, or use --host 127.0.0.1",
        )
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without it every reply may wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _no_socket(error, settings) from None
    listener.setblocking(False)
    return listener


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolve(settings: ServeSettings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not 0 <= settings.port <= 65535:
        raise UsageError(
            "port_wrong",
            "a port is a number from 0 to 65535",
            where="--port",
            seen=str(settings.port),
            hint="for example --port 8000; 0 takes any free one",
        )
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            "host_unknown",
            "this host has no address",
            where=f"host {settings.host!r}",
            seen=str(error),
            hint="use 127.0.0.1, or 0.0.0.0 for every interface",
        ) from None
    family, _, _, _, where = found[0]
    return family, (str(where[0]), int(where[1]))


def _no_socket(error: OSError, settings: ServeSettings) -> EnvironmentFault:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return EnvironmentFault(
            "port_taken",
            "another program listens here",
            where=where,
            hint=f"choose another --port, for example {min(settings.port + 1, 65535)}",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return EnvironmentFault(
            "port_not_permitted", "this port needs more rights", where=where, hint="choose a --port of 1024 or more"
        )
    return EnvironmentFault(
        "host_not_here",
        "this machine cannot listen here",
        where=where,
        seen=error.strerror or str(error),
        hint="use --host 127.0.0.1",
    )


@contextmanager
def _stop_quietly(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn raises the signal again once it has stopped; let a stop that was asked for end the call normally."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
