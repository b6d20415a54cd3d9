"""A Ray of this machine alone, which `pyramidion serve` starts for the service and which ends with it.

`python -m service.executors.ray.local_cluster PORT` is its process, the parent of `ray start`. All processes of it are
in the session of `ray start`, so they are found without their names. `ray stop` would end every Ray of the machine.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from pipelines.base.cores import num_cores
from pipelines.base.process_folder import ProcessFolder, remove_abandoned_folders
from pipelines.base.terminal import escape_output
from service.child_process import die_with_parent, python_command
from service.executors.base import Engine
from service.executors.process_tree import kill
from service.executors.ray.cluster import AUTH_MODE, TOKEN, TOKEN_PATH
from service.settings import Settings
from service.signals import Signals

LOOPBACK = "127.0.0.1"
END_S = 5.0
"""Time that `ray start` has to end its processes before they are killed."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray would kill attempts before memory runs out; the kernel does when it has run out, and the shim reports it.
    "RAY_memory_monitor_refresh_ms": "0",
    # The queue of the service decides what waits, so a job of Ray may wait without a limit.
    "RAY_JOB_START_TIMEOUT_SECONDS": str(10**8),
}
LOG = "ray.log"


def local_cluster(settings: Settings) -> Engine:
    """Return the Ray of a service: its port is unused at the moment, and its token is new unless the user has one."""
    port = _unused_ports(1)[0]
    has_choice = any(name in os.environ for name in (AUTH_MODE, TOKEN, TOKEN_PATH))
    token = {} if has_choice else {AUTH_MODE: "token", TOKEN: secrets.token_hex(32)}
    # Drivers fetch the orders of their attempts from the storage.
    has_storage = settings.run_storage is not None
    storage = {name: text for name, text in os.environ.items() if has_storage and name.startswith("AWS_")}
    return Engine(
        "Ray",
        python_command("service.executors.ray.local_cluster", str(port)),
        {"ray_address": f"http://{LOOPBACK}:{port}"},
        {**ENVIRONMENT, **token, **storage},
    )


def main() -> int:
    """Run Ray until SIGTERM; return 0, or the exit code of `ray start` if it ends before."""
    escape_output()
    die_with_parent()
    settings = Settings()
    remove_abandoned_folders()
    folder = ProcessFolder()
    with Signals() as signals, (settings.root / LOG).open("ab") as log:
        parent = os.getpid()
        ray = subprocess.Popen(
            _command(settings, int(sys.argv[1]), folder.path),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent=parent),
        )
        try:
            while not signals.stops and ray.poll() is None:
                signals.wait(1.0)
            code = ray.poll()
            if code is not None:
                print(f"Ray has ended with code {code}; see {settings.root / LOG}", file=sys.stderr, flush=True)
        finally:
            _end(ray)
            folder.remove()
    return 0 if code is None else code


def _command(settings: Settings, port: int, folder: Path) -> list[str]:
    agent, client, metrics = _unused_ports(3)
    command = [
        *python_command("ray.scripts.scripts", "start"), "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={LOOPBACK}", f"--dashboard-host={LOOPBACK}", "--include-log-monitor=false",
        "--port=0", f"--dashboard-port={port}", f"--dashboard-agent-listen-port={agent}",
        f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
        f"--num-cpus={settings.cpus or num_cores()}", f"--temp-dir={folder}",
    ]  # fmt: skip
    return command if settings.gpus is None else [*command, f"--num-gpus={settings.gpus}"]


def _end(ray: "subprocess.Popen[bytes]") -> None:
    """End all processes of this Ray. Attempts are in sessions of their own; their shims stop them with a checkpoint."""
    ray.terminate()
    deadline = time.monotonic() + END_S
    while ray.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    while kill(lambda table: [process for process in table.values() if process.session == ray.pid]):
        ray.poll()
    ray.wait()


def _unused_ports(number: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    sys.exit(main())
