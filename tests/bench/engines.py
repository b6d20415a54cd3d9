"""Compare a tiny training on this host, in Slurm and on Ray: the start of a job, and its steps per second.

Each engine is a real one on the same cores, with a supervisor of its own over an SQLite database; Slurm and Ray are
those of the tests, in network namespaces, which need root. The jobs run one after the other, in rounds (A-B-C-A-B-C).
A job starts when its first training step is reported; the time includes two rounds of the supervisor, the start of
Python with its imports, and the data check. Steps per second follow from the median time between two steps, which
other load on the machine affects less than the mean. It affects the processor time of the whole attempt least, which
is that of the trainer's processes, read once a second.
"""

import argparse
import copy
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from pipelines.data.synth.dataset import write_synthetic
from service.states import JobStatus
from service.store.records import Event, NewJob
from tests.conftest import SMALL_DOCUMENT
from tests.ray_cluster import RayForTests
from tests.service.reliability.cluster import Cluster
from tests.slurm import SlurmCluster, missing

ENGINES = ("local", "slurm", "ray")
EPOCHS = 12
TIMEOUT_S = 900.0


class Figures(NamedTuple):
    """A training: seconds from its submission to its first step, steps per second, and seconds of processor time."""

    start_s: float
    rate: float
    processor_s: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each engine")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="default: all")
    options = parser.parse_args()
    names = options.engine or ENGINES
    found: dict[str, list[Figures]] = {name: [] for name in names}
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-engines-")))
        write_synthetic(folder / "data" / "demo", num_train=20, num_val=6, num_test=6, image_size=128)
        clusters = {name: started(name, folder, stack) for name in names}
        for _, name in itertools.product(range(options.rounds), names):
            found[name].append(train(clusters[name]))
            print(f"{name}: {found[name][-1]}", flush=True)
    print(f"\nload average {os.getloadavg()[0]:.1f}\n")
    print("| engine | first step after, s | steps per second | processor time of the attempt, s |")
    print("|---|---|---|---|")
    for name, jobs in found.items():
        starts, rates, processors = zip(*jobs, strict=True)
        print(f"| {name} | {row_of(starts, 1)} | {row_of(rates, 2)} | {row_of(processors, 1)} |")


def started(name: str, folder: Path, stack: ExitStack) -> Cluster:
    """Return the jobs of an engine, with a supervisor that runs them until the end of the stack."""
    root = folder / name
    root.mkdir()
    used: Any = nullcontext({})
    if name == "slurm":
        if reason := missing():
            raise SystemExit(f"--engine slurm: {reason}; choose other engines")
        slurm = SlurmCluster()
        stack.callback(slurm.close)
        used = slurm.used()
    elif name == "ray":
        used = stack.enter_context(RayForTests(root).running()).used()
    with used as settings:
        fixed = {"data_roots": (folder / "data",), "executor": name, "poll_s": 0.2, "lease_s": 15.0}
        cluster = Cluster(root, f"sqlite:///{root / 'service.db'}", **fixed, **settings)
        stack.callback(cluster.close)
        cluster.start_supervisor("service.supervisor.process")
    return cluster


def train(cluster: Cluster) -> Figures:
    """Run a training and return its figures."""
    document = copy.deepcopy(SMALL_DOCUMENT)
    document["trainer"] |= {"max_epochs": EPOCHS, "check_val_every_n_epoch": EPOCHS, "accumulate_grad_batches": 1}
    job, _ = cluster.store.submit(NewJob(name="small", config=document, priority=0, cpus=1, gpus=0))
    processors = ProcessorTimes(job.id)

    def ended() -> Any:
        processors.read()
        now = cluster.store.get(job.id)
        return now if now.status.is_terminal else None

    if (now := cluster.until(ended, timeout_s=TIMEOUT_S)).status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"{now.failure_message}\n{cluster.log()}")
    return figures(job.created_at, cluster.store.events(job.id, after=0), processors.sum_s)


class ProcessorTimes:
    """The processor time of the processes whose command lines have a word, as far as it was read before they ended."""

    EVERY_S = 1.0

    def __init__(self, word: str) -> None:
        self._word, self._read_at = word, 0.0
        self._times_s: dict[int, float] = {}

    @property
    def sum_s(self) -> float:
        return sum(self._times_s.values())

    def read(self) -> None:
        """Read the times if they were not read within the last second."""
        if time.monotonic() < self._read_at + self.EVERY_S:
            return
        self._read_at = time.monotonic()
        for process in psutil.process_iter(["cmdline", "cpu_times"]):
            if any(self._word in part for part in process.info["cmdline"] or ()):
                self._times_s[process.pid] = sum(process.info["cpu_times"][:2])


def figures(submitted_at: float, events: Sequence[Event], processor_s: float) -> Figures:
    """Return the figures of a training that was submitted at a time, from its events."""
    steps = [event.time for event in events if event.kind == "progress"]
    between = [after - before for before, after in itertools.pairwise(steps)]
    return Figures(steps[0] - submitted_at, 1 / statistics.median(between), processor_s)


def row_of(values: Sequence[float], digits: int) -> str:
    """Return the median of the values, and all of them."""
    return f"{statistics.median(values):.{digits}f} ({', '.join(f'{one:.{digits}f}' for one in values)})"


if __name__ == "__main__":
    main()
