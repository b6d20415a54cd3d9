"""`python -m service.supervisor.process`: the only process that runs jobs from the queue.

It reads `Settings` from the environment and holds `supervisor.lock` of the root. On SIGTERM and SIGINT it exits after
the current round; its attempts continue, and the next supervisor adopts them.
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

from pipelines.base.errors import ConfigError
from pipelines.base.terminal import escape_output
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import find_store
from service.child_process import die_with_parent
from service.executors.registry import create_executor
from service.heartbeat import Heartbeat
from service.jobs.supervision import LOCK
from service.settings import Settings
from service.signals import Signals
from service.store.database import open_database
from service.store.errors import LeaseLost, SchemaUnknown, StoreUnavailable
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.supervisor.loop import MAX_PAUSE_S, Supervisor, one_line
from service.supervisor.mlflow_worker import MlflowWorker

LOCK_WAIT_S = 10.0
"""Maximum time that an earlier supervisor may take to exit."""

log = logging.getLogger("service.supervisor")


class LockHeld(Exception):
    """Another supervisor is running on the root."""


def main() -> int:
    """Run until a signal requests a stop, and return 0.

    Return 78 if the settings are invalid, and 1 if another supervisor is running or takes over.
    """
    escape_output()
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
        pause_s, heartbeat = settings.poll_s, Heartbeat()
        # No job is started before every attempt of an earlier supervisor was adopted.
        act: Callable[[], None] = supervisor.adopt
        while not signals.stops:
            heartbeat.beat()
            try:
                act()
                act, pause_s = supervisor.tick, settings.poll_s
            except LeaseLost:
                raise
            except Exception as error:  # for example, the database may be unavailable for a moment
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
                log.error("%s; next try in %.1f s", one_line(error), pause_s)
            signals.wait(pause_s)
    log.info("ended; running attempts continue, and the next supervisor adopts them")


@contextmanager
def _locked(path: Path, signals: Signals) -> Iterator[None]:
    """Hold the lock; the kernel releases it when this process exits for any reason.

    Raises:
        LockHeld: another process still holds it after `LOCK_WAIT_S`.
    """
    with path.open("a+") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        # lockf instead of flock, whose lock children would inherit.
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline or signals.stops:
                file.seek(0)
                raise LockHeld(
                    f"another supervisor (pid {file.read().strip() or 'unknown'}) holds {path}; stop it or choose "
                    "another PYRAMIDION_ROOT"
                )
            signals.wait(0.1)
        # On a full disk the pid is not written, but the supervisor works.
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
