"""Slurm clusters for tests: real daemons in a network namespace of their own, for one test process.

They listen on addresses that only the namespace has. Slurm's commands reach them through scripts of the same names.
Each node of a cluster of several has its own name of the host, and its own port.
"""

import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.child_process import die_with_parent
from service.executors.slurm import commands
from service.executors.slurm.commands import COMMANDS
from tests.service.waiting import TIMEOUT_S, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", *COMMANDS, "unshare", "nsenter", "ip")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
NUM_CPUS = 2
"""Cores of each node."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}({address})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
SlurmdTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
KillWait=30
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeAddr={address} NodeHostname={host} Port={port} CPUs={cpus} State=UNKNOWN"
FIRST_PORT = 6818
NETWORK = f"""
set -e
ip link set lo up
ip link add name node1 type veth peer name node2
ip addr add {ADDRESSES[0]}/24 dev node1
ip addr add {ADDRESSES[1]}/24 dev node2
ip link set node1 up
ip link set node2 up
echo ready
exec sleep infinity
"""
"""Each address has its own interface, as on two hosts."""
AS_HOST = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'
"""Runs a command in namespaces of its own as another host."""


def missing() -> str | None:
    """Return why no cluster can be started here; None if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"{absent[0]} is not installed (Debian: slurmctld slurmd slurm-client munge iproute2)"
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        return "network namespaces need root"
    return None


class SlurmCluster:
    """A cluster of nodes with `NUM_CPUS` cores and the partitions `low`, which is preempted, and `high`."""

    def __init__(self, num_nodes: int = 1) -> None:
        self.num_nodes = num_nodes
        self.names = [f"node{number + 1}" for number in range(num_nodes)]
        self.folder = Path(tempfile.mkdtemp(prefix="pyramidion-slurm-"))
        # munged wants its socket to be reachable by every user.
        self.folder.chmod(0o711)
        self.bin = self.folder / "bin"
        for name in ("state", "bin", *(f"spool-{node}" for node in self.names)):
            (self.folder / name).mkdir()
        hosts = [f"{address} {name}\n" for address, name in zip(ADDRESSES, self.names, strict=False)]
        (self.folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *hosts]))
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        values = {"host": platform.node(), "address": ADDRESSES[0], "folder": self.folder, "user": "root"}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values, nodes="\n".join(self._node_lines())))
        self._holder = self._popen("unshare", "--net", "sh", "-c", NETWORK, output=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._write_scripts()
        self._munged = self._start("munged", "--foreground", "--force", *self._munge_options())
        wait_until((self.folder / "munge.socket").exists, "the socket of munged")
        self.controller = self._start("slurmctld", "-D")
        self._nodes = {name: self._start_slurmd(name) for name in self.names}
        self.wait_for_nodes()

    def run(self, name: str, *arguments: str, check: bool = True) -> str:
        """Return what one of Slurm's commands prints."""
        command = [str(self.bin / name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def used(self) -> Iterator[dict[str, Any]]:
        """Put the commands of the cluster on the PATH; yield the settings by which an executor uses it: none."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
            # No test depends on how soon Slurm answers.
            patch.setattr(commands, "TIMEOUT_S", TIMEOUT_S)
            yield {}

    def wait_for_nodes(self) -> None:
        states = ("idle", "mixed", "allocated")
        read = partial(self.run, "sinfo", "-h", "-N", "-p", "low", "-o", "%T", check=False)
        wait_until(lambda: sum(word in states for word in read().split()) == self.num_nodes, "the nodes", pause_s=0.1)

    def start_controller(self) -> None:
        self.controller = self._start("slurmctld", "-D")
        self.wait_for_nodes()

    def stop_controller(self) -> None:
        self.controller.terminate()
        self.controller.wait()

    def kill_node(self, name: str = "node1") -> None:
        """Kill everything that runs on a node, as a loss of power would; the controller remains."""
        daemons = {self._holder.pid, self._munged.pid, self.controller.pid}
        daemons |= {child.pid for child in psutil.Process(self.controller.pid).children()}
        for process in self.processes_of(name):
            if process.pid not in daemons:
                process.kill()
        self._nodes[name].wait()

    def start_node(self, name: str = "node1") -> None:
        self._nodes[name] = self._start_slurmd(name)
        self.wait_for_nodes()

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the namespace: all of them were started here."""
        own = _namespace(self._holder.pid, "net")
        return [process for process in psutil.process_iter() if _namespace(process.pid, "net") == own]

    def processes_of(self, name: str) -> list[psutil.Process]:
        """Return the processes of a node; those of a cluster of one node include its daemons."""
        host = _namespace(self._nodes[name].pid, "uts")
        return [process for process in self.processes() if _namespace(process.pid, "uts") == host]

    def close(self) -> None:
        while found := [process for process in self.processes() if process.pid != self._holder.pid]:
            for process in found:
                process.kill()
            for daemon in (self._munged, self.controller, *self._nodes.values()):
                daemon.wait()
            psutil.wait_procs(found, timeout=5)
        self._holder.kill()
        self._holder.communicate()
        shutil.rmtree(self.folder)

    def _write_scripts(self) -> None:
        inside = f"nsenter --net=/proc/{self._holder.pid}/ns/net"
        for name in (*COMMANDS, "scontrol", "sacct"):
            if program := shutil.which(name, path=_path()):
                script = f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {inside} {shlex.quote(program)} "$@"\n'
                (self.bin / name).write_text(script)
                (self.bin / name).chmod(0o755)

    def _munge_options(self) -> list[str]:
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        return [f"--{option}={self.folder / name}" for option, name in files.items()]

    def _node_lines(self) -> Iterator[str]:
        for number, (name, address) in enumerate(zip(self.names, ADDRESSES, strict=False)):
            host, port = name if self.num_nodes > 1 else platform.node(), FIRST_PORT + number
            yield NODE.format(name=name, address=address, host=host, port=port, cpus=NUM_CPUS)

    def _start_slurmd(self, name: str) -> subprocess.Popen[bytes]:
        command = ("slurmd", "-D", "-N", name)
        if self.num_nodes == 1:
            return self._start(*command)
        hosts = str(self.folder / "hosts")
        return self._start("unshare", "--uts", "--mount", "sh", "-c", AS_HOST, name, hosts, *command)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return self._popen("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command)

    def _popen(self, *command: str, output: int | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / "daemons.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output or log,
                stderr=log,
                env={"PATH": _path(), "SLURM_CONF": f"{self.folder}/slurm.conf"},
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
            )


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _namespace(pid: int, kind: str) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/{kind}").readlink()
    except OSError:
        return None


@pytest.fixture(scope="session")
def started_slurm() -> Iterator[SlurmCluster]:
    if reason := missing():
        pytest.skip(reason)
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def slurm(started_slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """A cluster whose commands are on the PATH."""
    with started_slurm.used():
        yield started_slurm


@pytest.fixture
def two_slurm_nodes() -> Iterator[SlurmCluster]:
    """A cluster of two nodes whose commands are on the PATH."""
    if reason := missing():
        pytest.skip(reason)
    cluster = SlurmCluster(num_nodes=2)
    try:
        with cluster.used():
            yield cluster
    finally:
        cluster.close()
