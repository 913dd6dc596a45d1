"""An answer that was recorded in a database is found there, by the recipe of the champion."""

from pathlib import Path

import pytest

import keepfit as kf
from keepfit.core.errors import DataError
from keepfit.loop.why import why_of
from keepfit.store.records import Records
from keepfit.store.registry import Registry
from keepfit.store.request_ids import RequestIds


def test_why_reads_the_database_of_the_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("RECORDS", f"sqlite:///{tmp_path / 'records.db'}")
    (tmp_path / "first.csv").write_text(
        "a,y\n" + "".join(f"{n % 7},{'yes' if n % 7 > 3 else 'no'}\n" for n in range(140))
    )
    (tmp_path / "r.yaml").write_text(
        "version: 1\nname: m\ndata: {source: first.csv, target: y}\nmodel: {use: linear}\nclean: {leaks: 'off', duplicates: 'off'}\n"
        "serve: {record_store: '${RECORDS}'}\n"
    )
    version = Registry(tmp_path).register(kf.run(tmp_path / "r.yaml", workspace=tmp_path).bundle, "m")
    from keepfit.store.sql_records import SqlRecords

    store = SqlRecords(f"sqlite:///{tmp_path / 'records.db'}")
    name = RequestIds(store.key()).new(1, 1000.0)
    entry = {
        "id": name,
        "t": 1000.0,
        "model": ["m", "1", version.sha256],
        "predictions": ["yes"],
        "inputs": {"a": ["5"]},
    }
    store.write("answers", [entry], durable=True)
    assert len(list(Records(store).rows())) == 1
    found = why_of(name, tmp_path)
    assert found["model"]["version"] == "1" and found["answers"][0]["prediction"] == "yes"
    with pytest.raises(DataError, match="no record"):
        why_of("0" * 32, tmp_path)
