"""Checks of the database of a service, and of what it says about keys, supervisors and attempts."""

import time
from collections.abc import Iterator

from service.doctor.findings import CheckResult
from service.jobs.supervisor_lock import supervisor_pid
from service.server.health import find_problem
from service.server.parts import Part
from service.settings import Settings
from service.settings_secrets import variable_of
from service.store.errors import SchemaUnknown, StoreUnavailable
from service.store.inspection import DatabaseState, inspect_database

MAX_SKEW_S = 60.0


def database(settings: Settings) -> Iterator[CheckResult]:
    """Check the database, the clock, the keys and the lease of the supervisor."""
    place = variable_of("PYRAMIDION_DATABASE_URL")
    try:
        state = inspect_database(settings.url_of_database)
    except StoreUnavailable as error:
        yield CheckResult("database", "failed", str(error), f"start the database, or correct {place}")
        return
    except (SchemaUnknown, ValueError) as error:
        problem, _, remedy = str(error).partition("; ")
        yield CheckResult("database", "failed", problem, remedy or f"correct {place}")
        return
    if not state.is_current and not state.may_create_tables:
        detail = f"the account {state.account!r} may not create tables"
        remedy = f"run GRANT CREATE ON SCHEMA public TO {state.account}, or name the owner of the database in {place}"
        yield CheckResult("database", "failed", detail, remedy)
    elif state.schema is None:
        yield CheckResult("database", "ok", "is empty; `pyramidion serve` creates its tables")
    elif not state.is_current:
        yield CheckResult("database", "ok", f"has the schema {state.schema}, which `pyramidion serve` migrates")
    else:
        yield CheckResult("database", "ok", f"answers; schema {state.schema}")
    yield from _clock(state)
    if state.is_current or state.schema is None:
        yield from _keys(settings, state)
        yield from _lease(settings, state)
        yield from _attempts(settings, state)


def _clock(state: DatabaseState) -> Iterator[CheckResult]:
    remedy = "set the clock, and let all machines synchronize it (NTP)"
    ahead_s = (state.newest_event_at or 0.0) - time.time()
    if abs(state.clock_ahead_s) > MAX_SKEW_S:
        detail = f"the clock of the database's server differs from the one here by {state.clock_ahead_s:+.0f} s"
        yield CheckResult("clock", "failed", detail, remedy)
    elif ahead_s > MAX_SKEW_S:
        detail = (
            f"the newest event is {ahead_s:.0f} s in the future, so the clock was set back, here or on another host"
        )
        yield CheckResult("clock", "failed", detail, remedy)
    else:
        yield CheckResult("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _keys(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    create = "create a key with `pyramidion keys create`"
    if state.num_usable_keys:
        yield CheckResult("keys", "ok", f"{state.num_usable_keys} usable, {state.num_keys} in total")
    elif state.num_keys and settings.require_keys is not False:
        detail = f"all {state.num_keys} keys have expired or are revoked, so the service rejects every request"
        yield CheckResult("keys", "failed", detail, create)
    elif not settings.is_local:
        detail = f"no key exists, but other machines reach {settings.host}"
        yield CheckResult("keys", "failed", detail, f"{create}, or use --host 127.0.0.1")
    elif settings.require_keys:
        yield CheckResult("keys", "warning", "no key exists, so nobody can use the service", create)
    else:
        detail = f"no key is needed: everyone who reaches {settings.host} may do everything"
        yield CheckResult("keys", "ok", detail)


def _lease(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    if state.lease_age_s is None:
        pid = supervisor_pid(settings.root)
        detail = "no supervisor runs jobs" + (f", although process {pid} holds the lock of the root" if pid else "")
        remedy = "start `pyramidion serve` or `pyramidion serve supervisor`, or see its log"
        yield CheckResult("supervisor", "warning", detail, remedy)
    elif -MAX_SKEW_S <= state.lease_age_s <= 2 * settings.lease_s:
        yield CheckResult("supervisor", "ok", f"runs jobs on host {state.lease_host}")
    elif (problem := find_problem(Part.SUPERVISOR, settings)) is None:
        detail = f"the clock of host {state.lease_host} differs from the one here by {-state.lease_age_s:+.0f} s"
        remedy = "let all machines synchronize their clocks (NTP)"
        yield CheckResult("supervisor", "warning", detail, remedy)
    else:
        remedy = "start `pyramidion serve` or `pyramidion serve supervisor`; it takes the jobs over"
        yield CheckResult("supervisor", "warning", problem.partition(";")[0], remedy)


def _attempts(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    """Check that a supervisor with these settings could take over the attempts of active jobs."""
    if roots := sorted({root for _, root in state.places} - {str(settings.root)}):
        detail = f"attempts of active jobs write to the root {roots[0]}, and this root is {settings.root}"
        yield CheckResult("attempts", "failed", detail, "give all services of a database the same root")
    hosts = sorted({host for host, _ in state.places} - {settings.name_of_host})
    if hosts and settings.executor == "local":
        detail = f"attempts run on host {hosts[0]}; a supervisor on {settings.name_of_host} does not take them over"
        remedy = "keep a supervisor on that host; see PYRAMIDION_SUPERVISOR_HOST if it has another name now"
        yield CheckResult("attempts", "warning", detail, remedy)
