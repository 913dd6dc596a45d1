"""Files of remote storage are copied and read like local ones; an address that cannot be had is told."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest

from keepfit.core.errors import DataError, EnvironmentFault
from keepfit.runtime import remote, sources
from keepfit.runtime.table import concat

fsspec = pytest.importorskip("fsspec")


def count(source, folder, **said):
    paths = sources.files_of(source, folder, **said)
    return len(concat([part for path in paths for part in sources.chunks(path, sources.Read())])), [
        p.name for p in paths
    ]


@pytest.fixture
def bucket():
    system = fsspec.filesystem("memory")
    for name in ("a", "b"):
        with system.open(f"/bucket/{name}.csv", "wb") as file:
            file.write(b"x,y\n" + b"1,2\n" * 5)
    yield system
    system.rm("/bucket", recursive=True)


def test_a_file_and_a_glob_are_read_and_a_fresh_copy_sees_a_change(bucket, tmp_path):
    assert count("memory://bucket/a.csv", tmp_path, fresh=True) == (5, ["a.csv"])
    assert count("memory://bucket/*.csv", tmp_path, fresh=True) == (10, ["a.csv", "b.csv"])
    with bucket.open("/bucket/a.csv", "wb") as file:
        file.write(b"x,y\n1,2\n")
    assert count("memory://bucket/a.csv", tmp_path)[0] == 5
    assert count("memory://bucket/a.csv", tmp_path, fresh=True)[0] == 1


def test_an_unknown_kind_of_address_is_told():
    with pytest.raises(DataError, match="no such kind of address"):
        remote.file_system("ftpp://x/a.csv")


@pytest.mark.parametrize("source", ["memory://bucket/gone.csv", "memory://bucket/gone*.csv"])
def test_an_absent_remote_file_is_told(bucket, tmp_path, source):
    with pytest.raises(DataError, match="no such remote file"):
        sources.files_of(source, tmp_path)


def test_https_storage_is_read_from_a_server_and_a_refusal_is_told(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3,4\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *a: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert count(f"{base}/t.csv?token=hush", tmp_path) == (2, ["t.csv"])
        with pytest.raises(DataError) as caught:
            sources.files_of(f"{base}/gone.csv?token=hush", tmp_path)
        assert "hush" not in str(caught.value) and caught.value.code == "no_file"
        server.shutdown()
    with pytest.raises(DataError, match="remote file"):
        sources.files_of(f"{base}/t2.csv", tmp_path)


def test_a_missing_package_is_told_with_its_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(EnvironmentFault, match="remote") as caught:
        sources.files_of("s3://bucket/a.csv", tmp_path)
    assert "keepfit[remote]" in caught.value.hint


def test_names_of_copies_stay_in_their_folder():
    assert remote.copy_place("x", "../../etc/passwd").parent.parent == remote.copies_folder()
    assert remote.copy_place("x", "..").name == "source"
