"""A registry at a URL: pushed by the one who makes models, followed by the others, never half, never by two masters."""

from __future__ import annotations

import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from registered import GOLDEN, other

from keepfit.cli import main
from keepfit.core import digest
from keepfit.core.errors import DataError, EnvironmentFault, GateError
from keepfit.store.mirror import Keeping, Mirror
from keepfit.store.registry import Registry

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (extra remote)")


@pytest.fixture
def made(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "made")
    for number in range(3):
        registry.register(other(tmp_path, str(number)))
    return registry


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else (tmp_path / "far").as_uri()


def test_what_is_pushed_is_followed(made, url, tmp_path):
    mirror, here = Mirror(url), Registry(tmp_path / "here")
    with pytest.raises(DataError, match="no champion"):
        mirror.pull(here, "small")
    assert mirror.push(made, "small") and not mirror.push(made, "small")
    assert mirror.pull(here, "small") and not mirror.pull(here, "small")
    assert here.resolve("small").open().sha256 == made.resolve("small").sha256
    assert here.pointer("small") == made.pointer("small") and [v.version for v in here.versions("small")] == [1, 3]
    for _ in range(2):
        made.promote("small", 3)
        made.promote("small", 2)
    mirror.push(made, "small")
    mirror.pull(here, "small")
    assert here.resolve("small").version == 2 and [v.version for v in here.versions("small")] == [2, 3]
    made.rollback("small")
    assert mirror.push(made, "small") and mirror.pull(here, "small") and here.resolve("small").version == 3
    assert all(not one["error"] for one in here.verify("small"))


def test_a_name_has_one_master(made, url, tmp_path):
    mirror, here = Mirror(url), Registry(tmp_path / "here")
    mirror.push(made, "small")
    mirror.pull(here, "small")
    for act in (lambda: here.promote("small", 3), lambda: here.register(GOLDEN), lambda: here.rollback("small")):
        with pytest.raises(GateError) as caught:
            act()
        assert caught.value.code == "registry_follows"
    with pytest.raises(GateError) as caught:
        Mirror(url + "x").push(made, "small")
        Mirror(url + "x").pull(here, "small")
    assert caught.value.code == "registry_follows"
    own = Registry(tmp_path / "own")
    own.register(GOLDEN, "small")
    for act in (mirror.pull, mirror.push):
        with pytest.raises(GateError) as caught:
            act(own, "small")
    assert caught.value.code == "mirror_moved" and made.pointer("small") == mirror.pointer("small")


@pytest.mark.parametrize("what", ["pointer", "torn", "alias", "facts", "file", "absent", "names"])
def test_what_does_not_hold_is_not_followed(made, what, tmp_path):
    far, here = tmp_path / "far", Registry(tmp_path / "here")
    mirror = Mirror(str(far))
    mirror.push(made, "small")
    mirror.pull(here, "small")
    made.promote("small", 2)
    mirror.push(made, "small")
    pointer, version = far / "small" / "pointer.json", far / "small" / "versions" / "0002"
    if what == "pointer":
        pointer.write_bytes(b"{}")
    if what == "torn":
        pointer.write_bytes(pointer.read_bytes()[:-9])
    if what == "alias":
        said = {**json.loads(pointer.read_bytes())["pointer"], "aliases": {"champion": "../../etc"}}
        pointer.write_text(json.dumps({"pointer": said, "sum": digest.of_json(said)}))
    if what == "facts":
        (version / "version.json").write_bytes((far / "small" / "versions" / "0001" / "version.json").read_bytes())
    if what == "file":
        (version / "bundle" / "model.onnx").write_bytes(b"another")
    if what == "absent":
        (version / "version.json").unlink()
    if what == "names":
        sums = version / "bundle" / "SHA256SUMS"
        sums.write_text(sums.read_text() + f"{'0' * 64}  ../../../../outside\n")
    with pytest.raises((EnvironmentFault, DataError)):
        mirror.pull(here, "small")
    assert here.resolve("small").version == 1 and here.resolve("small").open() and not (tmp_path / "outside").exists()
    assert not list(here.folder.rglob("*.part"))


def test_a_push_that_was_cut_short_is_finished(made, url, tmp_path, monkeypatch):
    mirror, whole = Mirror(url), 0
    real = Mirror._put
    for stop in range(40):
        left = iter(range(stop))

        def put(self, name, data, left=left):
            if next(left, None) is None:
                raise OSError("the line was cut")
            real(self, name, data)

        monkeypatch.setattr(Mirror, "_put", put)
        here = Registry(tmp_path / f"here{stop}")
        with suppress(OSError):
            whole += mirror.push(made, "small")
        try:
            mirror.pull(here, "small")
            assert here.resolve("small").open().sha256 == made.resolve("small").sha256
        except DataError as error:
            assert error.code == "no_champion"
        if whole:
            return
    raise AssertionError("it was never whole")


def test_faults_are_told_once_and_tried_again(made, tmp_path):
    heard = []
    (tmp_path / "far").write_text("a file, not a folder")
    keeping = Keeping(Mirror(str(tmp_path / "far")), made, "small", heard.append, 0.01, push=True)
    assert not keeping.look() and not keeping.look() and [one.what for one in heard] == ["fault"]
    (tmp_path / "far").unlink()
    assert keeping.look() and heard[-1].what == "pushed"


def test_serve_follows_over_http(made, tmp_path, capsys):
    pytest.importorskip("aiohttp")
    far, home = tmp_path / "far", tmp_path / "made"
    assert main.run(["models", "push", "small", "--to", str(far), "--workspace", str(home)]) == 0
    assert "champion 1" in capsys.readouterr().out
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(far))
    handler.func.log_message = lambda *a: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            sys.executable,
            "-m",
            "keepfit",
            "serve",
            "small@champion",
            "--port",
            "0",
            "--json",
            "--record",
            "off",
        ]
        more = ["--registry", f"http://127.0.0.1:{server.server_port}", "--workspace", str(tmp_path / "here")]
        process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            address = json.loads(process.stdout.readline())["url"]

            def version() -> str:
                with urllib.request.urlopen(f"{address}/healthz", timeout=10) as reply:
                    return str(json.loads(reply.read())["model"]["version"])

            assert version() == "1"
            made.promote("small", 3)
            Mirror(str(far)).push(made, "small")
            until = time.monotonic() + 30
            while version() != "3" and time.monotonic() < until:
                time.sleep(0.1)
            assert version() == "3"
        finally:
            process.send_signal(signal.SIGINT)
            out = process.communicate(timeout=30)
        assert process.returncode == 0, out
        server.shutdown()
    assert os.listdir(tmp_path / "here" / ".keepfit" / "registry" / "small" / "versions")


def test_a_url_that_was_made_anew_is_followed_and_one_that_fails_leaves_the_name_free(made, tmp_path):
    far, here = tmp_path / "far away", Registry(tmp_path / "here")
    Mirror(str(far)).push(made, "small")
    assert (far / "small" / "pointer.json").is_file()
    Mirror(str(far)).pull(here, "small")
    for place in sorted(far.rglob("*"), reverse=True):
        place.rmdir() if place.is_dir() else place.unlink()
    anew = Registry(tmp_path / "anew")
    anew.register(other(tmp_path, "another"), "small")
    Mirror(str(far)).push(anew, "small")
    assert Mirror(f"file://{far}/").pull(here, "small")
    assert here.resolve("small").open().sha256 == anew.resolve("small").sha256
    (far / "small" / "versions" / "0001" / "version.json").unlink()
    free = Registry(tmp_path / "free")
    with pytest.raises(DataError):
        Mirror(str(far)).pull(free, "small")
    assert free.register(GOLDEN, "small").version == 1


def test_who_registers_or_promotes_does_not_wait_for_a_download(made, tmp_path, monkeypatch):
    mirror, here = Mirror(str(tmp_path / "far")), Registry(tmp_path / "here")
    mirror.push(made, "small")
    real, done = Mirror.take_version, []

    def slow(self, name, number, folder):
        facts = real(self, name, number, folder)
        other_name = threading.Thread(target=lambda: done.append(here.register(GOLDEN, "mine")), daemon=True)
        other_name.start()
        other_name.join(timeout=60)
        assert done, "a writer of another name waits for the network"
        assert not list((here.folder / "small").glob("versions/*"))  # nothing is a version before its hashes hold
        return facts

    monkeypatch.setattr(Mirror, "take_version", slow)
    assert mirror.pull(here, "small")
    assert (
        here.names() == ["mine", "small"] and here.resolve("small").open() and not list(here.folder.glob(".*incoming"))
    )


def test_two_that_receive_at_once_end_with_the_last_state(made, tmp_path):
    mirror, here = Mirror(str(tmp_path / "far")), Registry(tmp_path / "here")
    mirror.push(made, "small")
    faults = []

    def follow():
        try:
            for _ in range(8):
                mirror.pull(here, "small")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for one in threads:
        one.start()
    for number in (2, 3, 1, 2):
        made.promote("small", number)
        mirror.push(made, "small")
    for one in threads:
        one.join()
    mirror.pull(here, "small")
    assert not faults and here.pointer("small") == made.pointer("small")
    assert all(not one["error"] for one in here.verify("small"))


@pytest.mark.parametrize("when", ["take_version", "version_from", "put_folder", "_write"])
def test_a_pull_that_was_killed_is_finished(made, tmp_path, when):
    """The process ends where it stands, its locks with it; the next pull starts anew and leaves nothing behind."""
    far, home = tmp_path / "far", tmp_path / "here"
    Mirror(str(far)).push(made, "small")
    script = f"""
import os, sys
from pathlib import Path
from keepfit.core import atomic
from keepfit.store import mirror, registry
def end(*arguments):
    os._exit(9)
place = {{"take_version": mirror.Mirror, "version_from": mirror, "put_folder": atomic, "_write": registry.Registry}}
setattr(place[{when!r}], {when!r}, end)
mirror.Mirror(sys.argv[1]).pull(registry.Registry(Path(sys.argv[2])), "small")
"""
    assert subprocess.run([sys.executable, "-c", script, str(far), str(home)], check=False).returncode == 9
    here = Registry(home)
    assert Mirror(str(far)).pull(here, "small") and here.pointer("small") == made.pointer("small")
    assert all(not one["error"] for one in here.verify("small"))
    assert not list(here.folder.glob(".*incoming")) and not list(here.folder.rglob("*.part"))


def test_any_number_of_moves_may_lie_between_two_pushes(made, tmp_path, monkeypatch):
    from keepfit.store import moves, pointer

    monkeypatch.setattr(pointer, "KEPT_MOVES", 4)
    mirror = Mirror(str(tmp_path / "far"))
    mirror.push(made, "small")
    for number in (2, 3, 1, 2, 3, 1, 2):
        made.promote("small", number)
    assert len(made.pointer("small").log) == 4 and mirror.push(made, "small")
    assert mirror.pointer("small") == made.pointer("small")
    gone = list(moves.kept(made.folder / "small" / "moves.jsonl"))
    assert [one.serial for one in (*gone, *made.pointer("small").log)] == list(
        range(1, made.pointer("small").serial + 1)
    )
    stranger = Registry(tmp_path / "stranger")
    for number in range(3):
        stranger.register(other(tmp_path, f"s{number}"), "small")
    for number in (2, 3, 1, 2, 3, 1, 2):
        stranger.promote("small", number)
    with pytest.raises(GateError) as caught:
        mirror.push(stranger, "small")
    assert caught.value.code == "mirror_moved"


def test_a_torn_line_of_moves_costs_no_other(tmp_path):
    from keepfit.store import moves
    from keepfit.store.pointer import Move

    path, made = tmp_path / "x" / "moves.jsonl", [Move("champion", n, "promote", "", "t", n) for n in range(4)]
    moves.keep(path, made[:2])
    path.write_bytes(path.read_bytes()[:-7])
    moves.keep(path, made[1:])
    assert list(moves.kept(path)) == made and list(moves.kept(tmp_path / "none")) == []
