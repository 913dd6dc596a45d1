"""A query's answer becomes a table; passwords are said nowhere; the file of a database is never changed."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest

import keepfit as kf
from keepfit import api
from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError
from keepfit.runtime import sources
from keepfit.runtime.reading import redacted
from keepfit.runtime.sources import Source
from keepfit.runtime.table import concat


def rows_of(source, folder, fresh=True):
    paths = sources.files_of(source, folder, fresh=fresh)
    table = concat([part for path in paths for part in sources.chunks(path, sources.Read())])
    return table.names, [tuple(column[n] for column in table.columns.values()) for n in range(len(table))]


@pytest.fixture
def shop(tmp_path):
    rng = np.random.default_rng(1)
    with sqlite3.connect(tmp_path / "shop.db") as base:
        base.execute('create table "the orders" (id integer, price real, note text, bought text)')
        rows = [
            (n, float(x), ["ok", None, ""][n % 3], ["yes", "no"][int(x > 0)])
            for n, x in enumerate(rng.normal(size=150))
        ]
        base.executemany('insert into "the orders" values (?, ?, ?, ?)', rows)
    return tmp_path


def test_the_only_table_needs_no_query_and_a_query_is_asked(shop):
    names, rows = rows_of("sqlite:///shop.db", shop)
    assert names == ["id", "price", "note", "bought"] and len(rows) == 150
    assert [row[2] for row in rows[:3]] == ["ok", None, ""]
    names, rows = rows_of(
        Source("sqlite:///shop.db", 'select id, price * 2 as twice from "the orders" where id < 3'), shop
    )
    assert names == ["id", "twice"] and [row[0] for row in rows] == ["0", "1", "2"]


def test_the_copy_is_kept_in_a_process_and_made_again_when_asked(shop):
    assert len(rows_of("sqlite:///shop.db", shop)[1]) == 150
    with sqlite3.connect(shop / "shop.db") as base:
        base.execute('delete from "the orders" where id > 9')
    assert len(rows_of("sqlite:///shop.db", shop, fresh=False)[1]) == 150
    assert len(rows_of("sqlite:///shop.db", shop)[1]) == 10


@pytest.mark.parametrize(
    ("query", "code", "seen"),
    [
        ("select * from nowhere", "database", "no such table"),
        ('drop table "the orders"', "database", "readonly"),
        ("insert into \"the orders\" values (1, 1, '', 'no')", "database", "readonly"),
        ('select id, id from "the orders"', "duplicate_columns", "id"),
        ("select x'00ff' as blob", "cell_type", "bytes"),
        ("select 1; select 2", "database", "one statement"),
    ],
)
def test_what_a_database_refuses_is_told_and_nothing_is_changed(shop, query, code, seen):
    before = (shop / "shop.db").read_bytes()
    with pytest.raises(DataError) as caught:
        rows_of(Source("sqlite:///shop.db", query), shop)
    assert caught.value.code == code and seen in str(caught.value.seen) and (shop / "shop.db").read_bytes() == before


def test_two_tables_need_a_query_and_an_absent_file_is_told(shop):
    with sqlite3.connect(shop / "shop.db") as base:
        base.execute("create table more (a)")
    with pytest.raises(DataError, match="so it needs a query") as caught:
        rows_of("sqlite:///shop.db", shop)
    assert "more, the orders" in str(caught.value.seen)
    with pytest.raises(DataError, match="no such database") as caught:
        rows_of("sqlite:///shp.db", shop)
    assert "shop.db" in caught.value.hint


def test_any_other_url_needs_a_query_and_a_driver():
    with pytest.raises(DataError, match="a database needs a query"):
        sources.files_of("postgresql://me:secret@host/db", Path())
    pytest.importorskip("sqlalchemy")
    with pytest.raises(EnvironmentFault) as caught:
        sources.files_of(Source("nosuch+thing://me:secret@host/db", "select 1"), Path())
    assert caught.value.code == "missing_driver" and "secret" not in str(caught.value)


def test_sqlalchemy_streams_a_file_too(shop):
    pytest.importorskip("sqlalchemy")
    names, rows = rows_of(
        Source(f"sqlite+pysqlite:///{shop}/shop.db", 'select id, note from "the orders" order by id'), shop
    )
    assert names == ["id", "note"] and rows[:2] == [("0", "ok"), ("1", None)] and len(rows) == 150


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("postgresql://me:pa@ss/w@host/db", "pa@ss/w"),
        ("mysql://:pw1@host", "pw1"),
        ("https://h/a.csv?token=abc&x=1", "abc"),
        ("https://b.s3/a?X-Amz-Signature=ff00&X-Amz-Credential=me", "ff00"),
        ("postgresql://host/db?user=me&password=hush", "hush"),
    ],
)
def test_passwords_and_signatures_are_taken_out(text, gone):
    assert gone not in redacted(f"see {text} there") and "***" in redacted(text)


def test_a_run_from_a_query_is_kept_until_the_rows_change_and_saves_no_password(shop):
    query = 'select price, bought from "the orders" order by id'
    text = f"version: 1\nname: r\ndata:\n  source: {{source: 'sqlite:///shop.db', query: '{query}'}}\n  target: bought\nmodel: {{use: linear}}\n"
    (shop / "r.yaml").write_text(text)
    run = kf.run(shop / "r.yaml", workspace=shop)
    assert run.metrics["test"]["accuracy"] > 0.8
    assert {s["status"] for s in kf.run(shop / "r.yaml", workspace=shop).stages} == {"kept"}
    again = kf.run(shop / "runs" / "r" / "latest" / "recipe.yaml", workspace=shop)
    assert {s["status"] for s in again.stages if s["name"] != "package"} <= {
        "kept",
        "made",
    } and again.metrics == run.metrics
    with sqlite3.connect(shop / "shop.db") as base:
        base.execute('update "the orders" set price = 9 where id = 0')
    assert (
        api.make_plan(shop / "r.yaml").steps[0].key
        != api.make_plan(shop / "runs/r/latest/recipe.yaml", ["data.target=price"]).steps[0].key
    )
    assert kf.run(shop / "r.yaml", workspace=shop).stages[0]["status"] == "made"


@pytest.mark.parametrize(
    "said",
    ["{source: 'sqlite:///a.db', qurey: 'select 1'}", "{source: 'a.csv', query: 'select 1'}", "{query: 'select 1'}"],
)
def test_a_wrong_mapping_of_a_source_is_told(tmp_path, said):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "r.yaml").write_text(f"version: 1\ndata:\n  source: {said}\n  target: b\n")
    with pytest.raises(KeepfitError) as caught:
        kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    assert caught.value.code in ("unknown_key", "no_database", "key_missing")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A real server on a free port, owned by an account without rights where the tests run as root."""
    import os

    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = packaged or [Path(one) for one in [shutil.which("initdb")] if one]
    if not found:
        pytest.skip("no PostgreSQL programs (apt-get install postgresql)")
    pytest.importorskip("psycopg")
    folder = Path(str(tmp_path_factory.mktemp("pg")))
    as_user = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        for place in (folder, *(one for one in folder.parents if "pytest-of-" in str(one))):
            place.chmod(0o755)
        shutil.chown(folder, "nobody", "nogroup")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "pw").write_text("s3cret/pw")
    tools = found[-1].parent
    subprocess.run(
        [*as_user, tools / "initdb", "-D", folder / "data", "-U", "me", "-A", "scram-sha-256", f"--pwfile={folder}/pw"],
        check=True,
        capture_output=True,
    )
    control = [*as_user, tools / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run(
        [*control, "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start"],
        check=True,
        capture_output=True,
    )
    yield f"postgresql+psycopg://me:s3cret%2Fpw@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_real_postgresql_is_read_with_its_types_and_its_password_is_said_nowhere(postgres, tmp_path, monkeypatch):
    query = "select n as id, n / 4.0 as x, (n % 3 = 0) as flag, date '2024-01-01' + n as day, case when n % 2 = 0 then 'yes' else 'no' end as answer from generate_series(1, 25000) n order by n"
    names, rows = rows_of(Source(postgres, query), tmp_path)
    assert names == ["id", "x", "flag", "day", "answer"] and len(rows) == 25_000
    assert rows[2] == ("3", "0.75", "true", "2024-01-04", "no")
    with pytest.raises(DataError) as caught:
        rows_of(Source(postgres.replace("s3cret", "wr0ng"), "select 1 as a"), tmp_path)
    assert "wr0ng" not in str(caught.value) and caught.value.code == "database"
    monkeypatch.setenv("BASE", postgres)
    few = "select (n * n) % 97 as x, case when n % 2 = 0 then $$a$$ else $$b$$ end as y from generate_series(1, 200) n order by n"
    (tmp_path / "r.yaml").write_text(
        f"version: 1\nname: p\ndata:\n  source: {{source: '${{BASE}}', query: '{few}'}}\n  target: y\nmodel: {{use: linear}}\n"
    )
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert run.metrics and not kept
