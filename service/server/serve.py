"""`pyramidion serve`: the process that starts the other processes of the service, and replaces those that die or hang.

It is kept small so that little can fail: no FastAPI, no SQLAlchemy. It owns the listening socket, so no connection is
lost while the API process restarts. `pyramidion serve PART` starts one of these processes in the same way.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial

from service.child_process import child_environment, python_command
from service.executors.base import Engine
from service.executors.registry import check_executor, engine_of_service
from service.heartbeat import HeartbeatPipe
from service.inherited_environment import inherited_environment
from service.predictor_address import health_problem
from service.run_sync.opening import check_run_storage
from service.server.children import Child, HealthProbe, report, stop
from service.server.health import find_predictor_address, get
from service.server.orphans import inherits_orphans, reap_orphans, stop_orphans
from service.server.parts import WHOLE, Part
from service.server.prerequisites import check_access, check_folders, listening, locked
from service.settings import Settings
from service.settings_secrets import SECRET_SETTINGS, SECRETS
from service.signals import Signals
from service.states import ACTIVE

NOT_READY_S = 15.0
LOOK_S, MAX_LOOK_S = 0.02, 1.0
"""Time between two looks whether the service is ready: the first, and the longest one of a service that is not."""
ATTEMPT_END_S = 5.0
"""Time that an attempt may take beyond its grace period, to kill its processes and to write its exit."""


def serve(settings: Settings, parts: Sequence[Part] = WHOLE) -> int:
    """Run the service, or some of its parts, until SIGTERM, SIGINT or SIGHUP, and return 0.

    Running jobs continue without the service, except in a container, where the kernel would kill them, and in an engine
    that ends with the service: there they stop with a checkpoint.

    Raises:
        ConfigError: a folder is missing or cannot be created, or a setting is missing or cannot be used.
        ServeError: another service uses the root or the port, or a process of the service exits repeatedly.
    """
    engine = engine_of_service(settings) if parts == WHOLE else None
    if engine is not None:
        settings = settings.model_copy(update=dict(engine.settings))
    more = {} if engine is None else engine.environment
    environment = child_environment({**os.environ, **settings.environment(), **more})
    for variable in SECRETS:  # the environment has the secret itself
        environment.pop(f"{variable}_FILE", None)
    _check(settings, parts, environment)
    with contextlib.ExitStack() as opened:
        lock = opened.enter_context(locked(settings.root)) if parts == WHOLE else None
        children = []
        if Part.API in parts:
            listener = opened.enter_context(listening(settings))
            settings = settings.model_copy(update={"port": listener.getsockname()[1]})
            environment |= settings.environment()
            command = python_command("service.api.process", "--fd", str(listener.fileno()))
            children.append(_child("API", command, environment, settings, listener.fileno()))
            # A thread must not start children, which would die with it, but it may poll them.
            threading.Thread(target=_announce_when_ready, args=(settings, parts), daemon=True).start()
        if lock is not None:
            # On a full disk the holder is not written, but the service works: users can delete jobs.
            with contextlib.suppress(OSError):
                lock.write(f"process {os.getpid()} at {settings.url_of_api}".encode())
        if engine is not None:
            children.append(_engine(engine, settings))
        if Part.SUPERVISOR in parts:
            command = python_command("service.supervisor.process")
            children.append(_child("supervisor", command, environment, settings))
        if Part.PREDICTOR in parts:
            children.append(_predictor(settings))
        end = _run(children, settings, parts, engine)
    report(end)
    return 0


def _check(settings: Settings, parts: Sequence[Part], environment: Mapping[str, str]) -> None:
    if Part.API in parts:
        check_access(settings, environment)
    if Part.SUPERVISOR in parts:
        check_executor(settings)
        check_run_storage(settings)
    if Part.PREDICTOR in parts:
        find_predictor_address(settings)
    check_folders(settings)


def _child(name: str, command: Sequence[str], environment: dict[str, str], settings: Settings, *fds: int) -> Child:
    """Return a child that sends heartbeats."""
    pipe = HeartbeatPipe()
    return Child(
        name, command, {**environment, **pipe.variable}, (*fds, pipe.descriptor),
        signs=pipe, hang_timeout_s=settings.hang_timeout_s + settings.poll_s,
    )  # fmt: skip


def _engine(engine: Engine, settings: Settings) -> Child:
    """Return the system that runs attempts, which gets no secret of the service."""
    environment = settings.environment(without=SECRET_SETTINGS) | dict(engine.environment)
    inherited = inherited_environment(os.environ, settings.trainer_variables)
    return Child(engine.name, engine.command, child_environment(inherited | environment))


def _predictor(settings: Settings) -> Child:
    """Return the predictor, which gets no secret except its own."""
    inherited = inherited_environment(os.environ, settings.trainer_variables)
    environment = child_environment({**inherited, **settings.environment(without=["database_url"])})
    address = find_predictor_address(settings)
    command = python_command("service.predictor.process", "--listen", str(address), "--parent", str(os.getpid()))
    # Its health checks also fail while its event loop answers but its network hangs.
    probe = HealthProbe(partial(health_problem, address, settings.predictor_check_timeout_s))
    return Child(
        "predictor", command, environment, signs=probe, hang_timeout_s=settings.hang_timeout_s,
        start_timeout_s=settings.predictor_start_timeout_s,
    )  # fmt: skip


def _run(children: Sequence[Child], settings: Settings, parts: Sequence[Part], engine: Engine | None) -> str:
    """Keep the children running until a request to stop; return the last line of the log."""
    is_first_process = inherits_orphans()
    with Signals() as signals:
        try:
            while not signals.stops:
                for child in children:
                    child.keep_running()
                if is_first_process:
                    reap_orphans([child.process.pid for child in children if child.process is not None])
                signals.wait(min(child.due_in_s() for child in children))
            # Only the whole service knows that its jobs continue without it.
            outlive = parts == WHOLE and not is_first_process and engine is None
            still_running = f"; {_count_active(settings)}" if outlive else ""
        finally:
            stop(children, signals)
            if is_first_process:
                stop_orphans(settings.cancel_grace_s + ATTEMPT_END_S, signals)
    return f"stopped{still_running}"


def _announce_when_ready(settings: Settings, parts: Sequence[Part]) -> None:
    """Print the address once the service can run jobs, or the API alone answers."""
    started, is_reported = time.monotonic(), False
    path = "/readyz" if parts == WHOLE else "/livez"
    look_s = LOOK_S
    while True:
        status, answer = get(settings, path)
        if status == 200:
            print(f"serving {settings.url_of_api}, root {settings.root}", flush=True)
            return
        if not is_reported and time.monotonic() - started > NOT_READY_S:
            report(
                f"not ready after {NOT_READY_S:.0f} s: {answer.decode(errors='replace') or 'the API does not answer'}"
            )
            is_reported = True
        time.sleep(look_s)
        look_s = min(MAX_LOOK_S, look_s * 1.02)


def _count_active(settings: Settings) -> str:
    """Return a sentence with the number of jobs that continue."""
    statuses = "&".join(f"status={status}" for status in sorted(ACTIVE))
    status, answer = get(settings, f"/v1/jobs?limit=100&{statuses}", timeout_s=1.0)
    if status != 200:
        return "running jobs continue, and the next `pyramidion serve` on this root adopts them"
    page = json.loads(answer)
    count = f"{len(page['jobs'])}{' or more' if page['next_cursor'] else ''}"
    if count == "0":
        return "no job was running"
    return f"{count} running job(s) continue, and the next `pyramidion serve` on this root adopts them"
