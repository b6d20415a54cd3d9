"""Engines of both databases: their connections, and how long a caller may wait for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool

from service.settings import Settings

BEGIN = "pyramidion_begin"
"""Execution option of a connection: the statement that starts a transaction on SQLite."""

KEPT_CONNECTIONS = 8
"""Number of connections that stay open while they are not used."""

_ANSWER_SLACK_S = 2.0
_POSTGRESQL = {"postgresql", "postgres"}


@dataclass(frozen=True)
class DatabaseLimits:
    """Limits of one process: its waits for the database, and the number of its connections.

    Attributes:
        lock_s: seconds to wait for a lock that another process holds, and for a free connection.
        statement_s: seconds after which a statement is abandoned; on PostgreSQL only.
        connect_s: seconds to wait for a new connection; on PostgreSQL only.
        connections: maximum number of connections of this process.
    """

    lock_s: float = 30.0
    statement_s: float = 60.0
    connect_s: float = 5.0
    connections: int = 64

    @classmethod
    def of_requests(cls, settings: Settings) -> "DatabaseLimits":
        """Return the limits of the API: a call ends before its request does, so a client knows what has changed."""
        half_s = settings.database_timeout_s / 2
        # Reads, writes and streams have threads of their own; keys, probes and metrics need some more connections.
        connections = 3 * settings.database_threads + 16
        return cls(lock_s=half_s, statement_s=half_s, connect_s=half_s, connections=connections)


def parse_url(url: str) -> URL:
    """Return the URL of a database with the driver that this project uses.

    Raises:
        ValueError: it is invalid, or does not name a database that several processes can share.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _unusable(error) from error
    if parsed.drivername in _POSTGRESQL:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and (
        not parsed.database or parsed.database == ":memory:" or "mode" in parsed.query
    ):
        raise ValueError(
            f"PYRAMIDION_DATABASE_URL: got {parsed.render_as_string()}, which does not name a file that several "
            "processes can share; use a URL such as sqlite:////folder/service.db"
        )
    return parsed


def address_of(engine: Engine) -> str:
    """Return the file of a database, or its URL without the password."""
    if engine.dialect.name == "sqlite":
        return engine.url.database or ""
    return engine.url.render_as_string(hide_password=True)


def engine_of(url: URL, limits: DatabaseLimits, *, is_pooled: bool = True) -> Engine:
    """Return an engine for a URL of `parse_url`, without connecting.

    Raises:
        ValueError: the URL names a driver that is unknown or not installed.
    """
    pool: dict[str, Any] = {"poolclass": NullPool}
    if is_pooled:
        kept = min(KEPT_CONNECTIONS, limits.connections)
        pool = {
            "poolclass": QueuePool,
            "pool_size": kept,
            "max_overflow": limits.connections - kept,
            "pool_timeout": limits.lock_s,
        }
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, limits, pool)
        return _postgresql_engine(url, limits, pool)
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise ValueError(
                "PYRAMIDION_DATABASE_URL: names a PostgreSQL database, but the driver psycopg is not installed; "
                "install pyramidion[postgres]"
            ) from error
        raise _unusable(error) from error
    except ArgumentError as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> ValueError:
    return ValueError(
        f"PYRAMIDION_DATABASE_URL: cannot be used ({error}); use a URL such as sqlite:////folder/service.db or "
        "postgresql://user@host/database"
    )


def _sqlite_engine(url: URL, limits: DatabaseLimits, pool: dict[str, Any]) -> Engine:
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": limits.lock_s}, **pool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # SQLAlchemy starts transactions, not the driver (autocommit=True needs Python 3.12).
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))

    return engine


def _postgresql_engine(url: URL, limits: DatabaseLimits, pool: dict[str, Any]) -> Engine:
    if url.get_driver_name() != "psycopg":
        raise ArgumentError(f"the driver {url.drivername!r} is not supported")
    import psycopg

    answer_s = limits.statement_s + _ANSWER_SLACK_S

    class AnsweringConnection(psycopg.Connection[Any]):
        """A connection that breaks if the server does not answer: a stopped server cannot end its statements itself."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, answer_s if timeout is None else timeout)
            except psycopg.OperationalError:
                # The state of a connection whose answer is still to come is unknown.
                if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    self.close()
                raise

    settings = {
        "lock_timeout": round(limits.lock_s * 1000),
        "statement_timeout": round(limits.statement_s * 1000),
        # A process that was stopped in a transaction must not block the others for as long as it is stopped.
        "idle_in_transaction_session_timeout": round(limits.statement_s * 1000),
    }
    options = " ".join([*(f"-c {name}={value}" for name, value in settings.items()), str(url.query.get("options", ""))])
    engine = create_engine(
        url.difference_update_query(["options"]),
        connect_args={
            "options": options.strip(),
            "connect_timeout": max(2, round(limits.connect_s)),
            "application_name": url.query.get("application_name", "pyramidion"),
            # A host that disappears without closing its connections is noticed after about 30 s.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
        },
        pool_pre_ping=True,
        **pool,
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        return AnsweringConnection.connect(*arguments, **options)

    return engine
