"""`python -m service.executors.ray.driver FOLDER`: the entrypoint of the Ray job of an attempt, on its node.

It takes the attempt's order, starts it with the local executor, and ends after it. Ray signals the entrypoint of a job
with all of its descendants, and kills them all if the entrypoint takes too long. The shim is therefore no descendant of
this process: it alone decides which processes of the attempt get a signal. The two watch each other: if this process is
killed, the shim stops the attempt with a checkpoint, and if the shim is killed, this process kills what remains.
"""

import os
import signal
import sys
import time
from pathlib import Path

from service.executors.base import AttemptSpec
from service.executors.local import LocalExecutor
from service.executors.process_tree import find_process
from service.executors.ray.order import OrderFile
from service.executors.ray.states import SWEPT

POLL_S = 0.2
START_S = 60.0
"""Time within which a shim that was started has written run.json."""


def main() -> int:
    """Run the attempt; return 0 once exit.json is written, or if the order was withdrawn, and SWEPT if it was lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    return run_order(Path(sys.argv[1]))


def run_order(folder: Path) -> int:
    """Take the order in a folder and run it; return as `main`."""
    file = OrderFile(folder)
    try:
        spec = file.take(visible_devices())
    except OSError as error:
        remedy = "check the shared disk, and run Ray as the user of the service"
        print(f"the order of the attempt cannot be read: {error}; {remedy}", file=sys.stderr, flush=True)
        file.forget()
        return 1
    if spec is None:
        print("the attempt was stopped before it ran, or runs already", flush=True)
        return 0
    return run(spec, file)


def run(spec: AttemptSpec, file: OrderFile | None) -> int:
    """Start the shim of an attempt, and end after it; return as `main`.

    Args:
        spec: the attempt.
        file: its order; None if another process removes it.
    """
    driver = find_process(os.getpid())
    assert driver is not None
    executor = LocalExecutor(cpus=1, gpus=0, driver=driver)
    if start(executor, spec):
        return follow(executor, file, spec.folder)
    if file is not None:
        file.forget()
    return 1


def visible_devices() -> tuple[str, ...]:
    """Return the GPUs that Ray has given to this job."""
    return tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))


def start(executor: LocalExecutor, spec: AttemptSpec) -> bool:
    """Start the shim from a process that exits at once, so that it is no descendant of this process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            executor.start(spec)
            code = 0
        except OSError as error:
            print(f"the attempt could not be started: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def follow(executor: LocalExecutor, file: OrderFile | None, folder: Path) -> int:
    """Pass requests to stop on to the shim, until the attempt has ended; remove its order once no shim needs it.

    A shim that may still start needs the order: without it and run.json, the attempt counts as never started.

    Args:
        executor: has started the shim.
        file: the order; None if another process removes it.
        folder: the folder of the shim.
    """
    give_up_at, must_stop = time.monotonic() + START_S, False
    while True:
        try:
            seen = executor.poll(folder)
            if file is not None and seen.kind != "absent":
                file.forget()
                file = None
            if seen.kind == "exited":
                return 0
            if seen.kind == "alive":
                if must_stop:
                    executor.stop(folder)
                    must_stop = False
            elif (seen.kind == "lost" or time.monotonic() > give_up_at) and executor.sweep(folder):
                if file is not None:
                    file.forget()
                return SWEPT
        except OSError as error:  # the shared disk may be unavailable for a moment
            print(f"the attempt's folder cannot be used: {error}", file=sys.stderr, flush=True)
        must_stop |= signal.sigtimedwait({signal.SIGTERM}, POLL_S) is not None


if __name__ == "__main__":
    sys.exit(main())
