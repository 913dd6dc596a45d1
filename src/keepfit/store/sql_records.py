"""Records in a database that several hosts share, through SQLAlchemy (extra `sql`): Postgres, or any that it knows."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keepfit.core.errors import EnvironmentFault, UsageError, missing_extra
from keepfit.store.record_files import KEY_BYTES, KINDS, Kind
from keepfit.store.segments import Entry

_PAGE, _ATTEMPTS = 1000, 5
_PREFIX = "keepfit_"


def redacted(url: str) -> str:
    """A database URL without its password."""
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:***@", url)


class SqlRecords:
    """One table per kind: (n, t, id, entry as JSON text); what is written is committed, so all of it is durable.

    Raises EnvironmentFault `missing_extra` without SQLAlchemy, `database` where it cannot be reached, UsageError for a bad URL.
    """

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy as sql
        except ImportError:
            raise missing_extra("sql", "sqlalchemy") from None
        self._sql, self._url = sql, redacted(url)
        try:
            self._engine = sql.create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise EnvironmentFault(
                "missing_driver",
                "the database's driver is not installed",
                where=self._url,
                seen=str(error),
                hint=f"pip install {error.name}",
            ) from None
        except (sql.exc.SQLAlchemyError, ValueError) as error:
            raise UsageError(
                "database_url",
                "this is no database URL",
                where=self._url,
                seen=str(error)[:200],
                hint="for example postgresql+psycopg://user@host/records",
            ) from None
        self._tables = _tables(sql)
        self._make_tables()

    def _make_tables(self) -> None:
        """Hosts that start together make the same tables, and Postgres lets only one of them: the others look again."""
        for attempt in range(_ATTEMPTS):
            try:
                with self._connection(quiet=True) as connection:
                    self._meta.metadata.create_all(connection)
                return
            except (self._sql.exc.IntegrityError, EnvironmentFault):
                time.sleep(0.05 * (attempt + 1))
        with self._connection() as connection:
            self._meta.metadata.create_all(connection)

    @property
    def _meta(self) -> Any:
        return self._tables["meta"]

    def key(self) -> bytes:
        """See Backend; the first process that writes it wins."""
        sql, meta = self._sql, self._meta
        chosen = sql.select(meta.c.value).where(meta.c.name == "key")
        with self._connection() as connection:
            found = connection.execute(chosen).scalar()
        if found is None:
            try:
                with self._connection(quiet=True) as connection:
                    connection.execute(meta.insert().values(name="key", value=secrets.token_hex(KEY_BYTES)))
            except sql.exc.IntegrityError:
                pass
            with self._connection() as connection:
                found = connection.execute(chosen).scalar()
        return bytes.fromhex(str(found))

    def describe(self, model: Entry) -> None:
        """See Backend."""
        table = self._tables["models"]
        row = {"sha256": model["sha256"], "entry": json.dumps(model, ensure_ascii=False)}
        try:
            with self._connection(quiet=True) as connection:
                connection.execute(table.insert().values(**row))
        except self._sql.exc.IntegrityError:
            with self._connection() as connection:
                connection.execute(table.update().where(table.c.sha256 == row["sha256"]).values(entry=row["entry"]))

    def models(self) -> dict[str, Entry]:
        """See Backend."""
        with self._connection() as connection:
            rows = connection.execute(self._sql.select(self._tables["models"].c.entry)).scalars().all()
        found = [json.loads(row) for row in rows]
        return {model["sha256"]: model for model in found}

    def write(self, kind: Kind, entries: Sequence[Entry], durable: bool = False) -> None:
        """See Backend."""
        if not entries:
            return
        rows = [{"t": e["t"], "id": e.get("id", ""), "entry": json.dumps(e, ensure_ascii=False)} for e in entries]
        with self._connection() as connection:
            connection.execute(self._tables[kind].insert(), rows)

    def read(self, kind: Kind, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """See Backend; in pages, so that memory stays constant."""
        sql, table = self._sql, self._tables[kind]
        chosen = sql.select(table.c.n, table.c.t, table.c.entry).order_by(table.c.t, table.c.n).limit(_PAGE)
        if until is not None:
            chosen = chosen.where(table.c.t < until)
        after = None if since is None else table.c.t >= since
        while True:
            with self._connection() as connection:
                page = connection.execute(chosen if after is None else chosen.where(after)).all()
            for _, _, entry in page:
                yield json.loads(entry)
            if len(page) < _PAGE:
                return
            n, t, _ = page[-1]
            after = sql.or_(table.c.t > t, sql.and_(table.c.t == t, table.c.n > n))

    def prune(self, now: float, max_age_s: float, max_bytes: int) -> int:
        """See Backend; the size is that of the JSON."""
        sql, gone = self._sql, 0
        with self._connection() as connection:
            total = 0
            for kind in KINDS:
                table = self._tables[kind]
                gone += connection.execute(table.delete().where(table.c.t < now - max_age_s)).rowcount
                total += connection.execute(sql.select(sql.func.sum(sql.func.length(table.c.entry)))).scalar() or 0
            table = self._tables["answers"]
            while total > max_bytes:
                oldest = connection.execute(
                    sql.select(table.c.n, sql.func.length(table.c.entry)).order_by(table.c.t, table.c.n).limit(_PAGE)
                ).all()
                if not oldest:
                    break
                cut = []
                for n, size in oldest:
                    if total <= max_bytes:
                        break
                    cut.append(n)
                    total -= size
                gone += connection.execute(table.delete().where(table.c.n.in_(cut))).rowcount
        return gone

    def close(self) -> None:
        """See Backend."""
        self._engine.dispose()

    @contextmanager
    def _connection(self, quiet: bool = False) -> Iterator[Any]:
        """A transaction. `quiet`: a row that is there already is the caller's to handle."""
        exc = self._sql.exc
        try:
            with self._engine.begin() as connection:
                yield connection
        except exc.SQLAlchemyError as error:
            if quiet and isinstance(error, exc.IntegrityError):
                raise
            raise EnvironmentFault(
                "database",
                "the records' database cannot be used",
                where=self._url,
                seen=str(getattr(error, "orig", error))[:300],
                hint="does it run, and may this user make tables and write there?",
            ) from None


def _tables(sql: Any) -> dict[str, Any]:
    meta = sql.MetaData()
    found = {
        "meta": sql.Table(
            f"{_PREFIX}meta", meta, sql.Column("name", sql.String(40), primary_key=True), sql.Column("value", sql.Text)
        ),
        "models": sql.Table(
            f"{_PREFIX}models",
            meta,
            sql.Column("sha256", sql.String(64), primary_key=True),
            sql.Column("entry", sql.Text),
        ),
    }
    number = sql.BigInteger().with_variant(sql.Integer, "sqlite")  # sqlite counts up in an INTEGER only
    for kind in KINDS:
        found[kind] = sql.Table(
            _PREFIX + kind,
            meta,
            sql.Column("n", number, primary_key=True, autoincrement=True),
            sql.Column("t", sql.Double, index=True, nullable=False),
            sql.Column("id", sql.String(32), index=True, nullable=False),
            sql.Column("entry", sql.Text, nullable=False),
        )
    return found
