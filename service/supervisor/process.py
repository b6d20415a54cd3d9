"""`python -m service.supervisor.process`: the one process that takes jobs from the queue to their end.

It reads `Settings` from the environment and holds `supervisor.lock` of the root. SIGTERM and SIGINT end it after the
tick; attempts live on, and the next supervisor adopts them.
"""

import fcntl
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import ConfigError
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import find_store
from service.child_process import die_with_parent
from service.executors.registry import create_executor
from service.jobs.supervision import LOCK
from service.settings import Settings
from service.signals import Signals
from service.store.database import open_database
from service.store.errors import LeaseLost, SchemaUnknown, StoreUnavailable
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.supervisor.loop import LONGEST_REST_S, Supervisor, one_line
from service.supervisor.mlflow_worker import MlflowWorker

LOCK_WAIT_S = 10.0
"""What an earlier supervisor has to end."""

log = logging.getLogger("service.supervisor")


class LockHeld(Exception):
    """Another supervisor serves the root."""


def main() -> int:
    """Run until a signal asks for the end; return 0, 78 where the settings are wrong, 1 where another supervisor is
    there or takes over."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="supervisor: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    die_with_parent(signal.SIGTERM)
    try:
        with Signals() as signals:
            _run(signals)
    except (LockHeld, LeaseLost, OSError, StoreUnavailable) as error:
        log.error("%s", one_line(error))
        return 1
    except (SchemaUnknown, ConfigError, ValueError) as error:
        log.error("%s", " ".join(str(error).split()))
        return ConfigError.exit_code
    return 0


def _run(signals: Signals) -> None:
    settings = Settings()
    settings.jobs_dir.mkdir(parents=True, exist_ok=True)
    with _locked(settings.root / LOCK, signals):
        engine = open_database(settings.url_of_database)
        supervisor = Supervisor(
            settings,
            JobStore(engine),
            LeasedStore(engine, owner=uuid.uuid4().hex),
            create_executor(settings),
            MlflowWorker(JobRuns(find_store(settings.root))),
        )
        rest_s = settings.poll_s
        # Nothing new is started before every attempt of an earlier supervisor was looked at.
        act: Callable[[], None] = supervisor.adopt
        while not signals.stops:
            try:
                act()
                act, rest_s = supervisor.tick, settings.poll_s
            except LeaseLost:
                raise
            except Exception as error:  # A database that does not answer now, say, may do so later.
                rest_s = min(LONGEST_REST_S, 2 * rest_s)
                log.error("%s; tried again in %.1f s", one_line(error), rest_s)
            signals.wait(rest_s)
    log.info("ends; what is running goes on, and is adopted by the next supervisor")


@contextmanager
def _locked(path: Path, signals: Signals) -> Iterator[None]:
    """Hold the lock; the kernel lets go when this process ends, however it ends.

    Raises:
        LockHeld: another process holds it, and has not ended in time.
    """
    with path.open("a+") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        # Not flock: children would inherit it.
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline or signals.stops:
                file.seek(0)
                raise LockHeld(
                    f"another supervisor (pid {file.read().strip() or 'unknown'}) holds {path}; end it, or serve "
                    "another folder (PYRAMIDION_ROOT)"
                )
            signals.wait(0.1)
        # A full disk takes no name, but keeps no supervisor from its work.
        with suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
