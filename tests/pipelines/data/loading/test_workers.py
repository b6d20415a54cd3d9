"""Workers of a loader in a process group of their own: they outlive signals to the group, but not their process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipelines.data.loading.workers import SampleLoader
from tests.service.waiting import TIMEOUT_S

SCRIPT = """
import signal, sys, time
from pipelines.data.loading.workers import SampleLoader

received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))

class Slow:
    def __len__(self):
        return 6
    def __getitem__(self, index):
        time.sleep(float(sys.argv[1]) if index > 1 else 0)
        return index

loader = SampleLoader(Slow(), num_workers=2, persistent_workers=True)
for epoch in range(2):
    for number, batch in enumerate(loader):
        print(epoch, number, flush=True)
print("received", len(received), flush=True)
del loader, batch
print("done", flush=True)
"""


@contextmanager
def loading(seconds: float) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """Start a process that loads batches of one image, and yield it with its workers once a batch has arrived."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0 0\n"
        yield process, psutil.Process(process.pid).children()
        process.kill()


def test_signals_to_the_process_group_reach_the_process_that_loads_alone() -> None:
    with loading(0.1) as (process, workers):
        assert len(workers) == 2
        for number in (signal.SIGTERM, signal.SIGINT):
            os.killpg(process.pid, number)
            time.sleep(0.05)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert output.splitlines()[-2:] == ["received 2", "done"]
    assert not [worker for worker in workers if worker.is_running()]


def test_busy_workers_end_when_their_process_is_killed() -> None:
    with loading(600) as (process, workers):
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=TIMEOUT_S)
        assert alive == []


class Endless:
    """Samples of which the second one takes forever."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(600 * index)
        return index


def _num_pending_signals(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1], 16).bit_count() for line in lines if line.startswith(("SigPnd:", "ShdPnd:")))


def test_worker_ignores_a_signal_of_another_process_but_ends_when_its_own_process_terminates_it() -> None:
    # Other children of this process, such as multiprocessing's resource tracker, may have higher pids.
    others = set(psutil.Process().children())
    batches = iter(SampleLoader(Endless(), num_workers=1))
    assert next(batches) == 0
    (worker,) = set(psutil.Process().children()) - others
    subprocess.run([sys.executable, "-c", f"import os; os.kill({worker.pid}, {signal.SIGTERM})"], check=True)
    # A second SIGTERM would be lost while the first one waits to be handled.
    while _num_pending_signals(worker):
        time.sleep(0.01)
    time.sleep(0.2)
    assert worker.is_running()
    worker.terminate()
    assert psutil.wait_procs([worker], timeout=TIMEOUT_S)[1] == []
    # Torch has seen the end of its worker, and need not wait for it.
    del batches
