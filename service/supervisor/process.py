"""`python -m service.supervisor.process`: a process that runs the jobs of a database, or stands by to do so.

It reads `Settings` from the environment. Of all supervisors of a database, the one that holds the lease runs the jobs,
and the others wait for it (`service.supervisor.lease`). On SIGTERM and SIGINT it exits after the current round; its
attempts continue, and the next supervisor adopts them.
"""

import logging
import signal
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress

from pipelines.base.errors import ConfigError
from pipelines.base.terminal import escape_output
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import find_store
from service.child_process import die_with_parent
from service.executors.registry import create_executor
from service.heartbeat import Heartbeat
from service.jobs.supervisor_lock import LOCK
from service.run_sync.executor import with_run_storage
from service.settings import Settings
from service.signals import Signals
from service.store.database import Database, open_database
from service.store.engines import DatabaseLimits
from service.store.errors import LeaseLost, SchemaUnknown, StoreError, StoreUnavailable, Superseded
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.supervisor_lease import LeaseStore
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweeps import SweepStore
from service.supervisor.attempts import Command
from service.supervisor.lease import RENEWALS, Lease
from service.supervisor.loop import MAX_PAUSE_S, Supervisor, one_line
from service.supervisor.mlflow_worker import MlflowWorker
from service.supervisor.root_lock import RootLock
from service.supervisor.sweep_runner import SweepRunner
from service.supervisor.sweep_thread import SweepThread
from service.supervisor.sweep_tracking import SweepTracking

MAX_WAIT_S = 0.5
"""Maximum time between two looks at the lease of another supervisor."""

log = logging.getLogger("service.supervisor")


def main(command: Command | None = None) -> int:
    """Run until a signal requests a stop, and return 0.

    Return 78 if the settings are invalid, and 1 if another supervisor has taken over: started again, it stands by.

    Args:
        command: returns the command line of an attempt; by default that of the job's kind.
    """
    escape_output()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="supervisor: %(message)s")
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    die_with_parent(signal.SIGTERM)
    try:
        with Signals() as signals:
            _run(signals, command)
    except (LeaseLost, Superseded, OSError) as error:
        log.error("%s", one_line(error))
        return 1
    except (SchemaUnknown, ConfigError, ValueError) as error:
        log.error("%s", " ".join(str(error).split()))
        return ConfigError.exit_code
    return 0


def _run(signals: Signals, command: Command | None) -> None:
    settings, heartbeat = Settings(), Heartbeat()
    settings.jobs_dir.mkdir(parents=True, exist_ok=True)
    executor = with_run_storage(create_executor(settings), settings)
    owner, host = uuid.uuid4().hex, settings.name_of_host
    engine = _opened(settings, signals, heartbeat)
    if engine is None:
        return
    is_bound = getattr(executor, "is_bound_to_host", True)
    lease = Lease(LeaseStore(engine, owner, host), host, settings.root, settings.lease_s, is_bound_to_host=is_bound)
    with RootLock(settings.root / LOCK) as lock:
        if not _wait_for_lease(lease, lock, settings, signals, heartbeat):
            return
        jobs, mlflow = JobStore(engine), MlflowWorker(JobRuns(find_store(settings.root)))
        leased = LeasedStore(engine, owner, host, str(settings.root))
        supervisor = Supervisor(settings, jobs, leased, executor, mlflow, lease, command)
        leased_sweeps = LeasedSweepStore(engine, owner)
        tracking = SweepTracking(mlflow, leased_sweeps)
        sweeps = SweepThread(SweepRunner(settings, jobs, SweepStore(engine), leased_sweeps, tracking))
        sweeps.start()
        try:
            _run_jobs(supervisor, lease, lock, settings, signals, heartbeat)
        finally:
            sweeps.stop()
    log.info("ended; running attempts continue, and the next supervisor adopts them")


def _opened(settings: Settings, signals: Signals, heartbeat: Heartbeat) -> Database | None:
    """Return the database once it can be opened; None if a signal requests a stop before that."""
    # Shorter than the lease, so that a round that waits for a lock does not lose it.
    part_s = settings.lease_s / RENEWALS
    limits = DatabaseLimits(lock_s=part_s, statement_s=settings.lease_s, connect_s=part_s, connections=4)
    pause_s = settings.poll_s
    while not signals.stops:
        heartbeat.beat()
        try:
            return open_database(settings.url_of_database, limits)
        except StoreUnavailable as error:
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            log.error("%s; next try in %.1f s", one_line(error), pause_s)
            signals.wait(pause_s)
    return None


def _wait_for_lease(lease: Lease, lock: RootLock, settings: Settings, signals: Signals, heartbeat: Heartbeat) -> bool:
    """Return True once this supervisor has the lease, False if a signal requests a stop before that."""
    reported = None
    while not signals.stops:
        heartbeat.beat()
        lease.has_lock = lock.try_to_take()
        try:
            reason = lease.try_to_take()
        except StoreUnavailable as error:
            reason = str(error)
        if reason is None:
            return True
        if reason != reported:
            log.info("stands by: %s", reason)
            reported = reason
        signals.wait(min(MAX_WAIT_S, settings.lease_s / RENEWALS))
    return False


def _run_jobs(
    supervisor: Supervisor, lease: Lease, lock: RootLock, settings: Settings, signals: Signals, heartbeat: Heartbeat
) -> None:
    pause_s = settings.poll_s
    # No job is started before every attempt of an earlier supervisor was adopted.
    act: Callable[[], None] = supervisor.adopt
    while not signals.stops:
        heartbeat.beat()
        lease.has_lock = lock.try_to_take()
        try:
            act()
            act, pause_s = supervisor.tick, settings.poll_s
        except (LeaseLost, Superseded):
            raise
        except Exception as error:  # for example, the database may be unavailable for a moment
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            log.error("%s; next try in %.1f s", one_line(error), pause_s)
        signals.wait(pause_s)
    # If this fails, the next supervisor waits until the lease has expired.
    with suppress(StoreError):
        lease.release()


if __name__ == "__main__":
    sys.exit(main())
