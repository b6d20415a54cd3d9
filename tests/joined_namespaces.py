"""Two network namespaces that a virtual cable joins: two hosts for a test, which nothing else can reach."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.service.waiting import wait_until

HOSTS = ("10.77.0.1", "10.77.0.2")
"""The addresses of the two hosts, on the interfaces `cable0` and `cable1`."""


@dataclass(frozen=True)
class Host:
    """One of the two hosts: the process that holds its namespace."""

    pid: int

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command on this host."""
        return ["nsenter", "--target", str(self.pid), "--net", "--", *words]

    def listening(self) -> set[str]:
        """Return the IPv4 addresses that listen on this host."""
        shown = subprocess.check_output(self.command("cat", "/proc/net/tcp"), text=True)
        rows = [line.split() for line in shown.splitlines()[1:]]
        found = {row[1].partition(":")[0] for row in rows if row[3] == "0A"}
        return {".".join(str(byte) for byte in reversed(bytes.fromhex(address))) for address in found}


def are_available() -> bool:
    """Return whether this process may create network namespaces."""
    return shutil.which("ip") is not None and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0


@contextmanager
def joined_namespaces() -> Iterator[tuple[Host, Host]]:
    """Create the two hosts; all of their processes must have ended before the context does."""
    own = Path("/proc/self/ns/net").readlink()
    with ExitStack() as held:
        holders = [held.enter_context(_sleeping()) for _ in HOSTS]
        for holder in holders:
            namespace = Path(f"/proc/{holder.pid}/ns/net")
            wait_until(lambda path=namespace: path.readlink() != own, "a namespace")
        first, second = hosts = tuple(Host(holder.pid) for holder in holders)
        add = ["ip", "link", "add", "name", "cable0", "netns", str(first.pid), "type", "veth"]
        subprocess.run([*add, "peer", "name", "cable1", "netns", str(second.pid)], check=True)
        for number, (host, address) in enumerate(zip(hosts, HOSTS, strict=True)):
            for words in (["addr", "add", f"{address}/24", "dev", f"cable{number}"], ["link", "set", "lo", "up"]):
                subprocess.run(host.command("ip", *words), check=True)
            subprocess.run(host.command("ip", "link", "set", f"cable{number}", "up"), check=True)
        yield first, second


@contextmanager
def _sleeping() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
