"""The wall clock of a running service jumps: jobs, leases and streams do not notice, and keys follow the clock.

`libfaketime` (GPL-2, used for this test only) shifts the wall clock of processes by what a file says at each call.
Their monotonic clock, and the clocks of this process and of the attempts, are the real ones.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest

from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.states import JobStatus
from service.store.api_keys import KeyStore
from tests.service.reliability.cluster import Cluster

pytestmark = pytest.mark.reliability

HOUR_S = 3600
JUMPS_S = (HOUR_S, -HOUR_S, 365 * 24 * HOUR_S, 0)
LONG = "echo x > ../../started; while [ ! -e ../../end ]; do sleep 0.05; done; echo '{}' > ../../result.json"
FAILS_ONCE = "if [ ! -e ../../failed ]; then touch ../../failed; exit 1; fi; echo '{}' > ../../result.json"
BEATS = 8
"""Heartbeats of the lease after a jump: more than it takes a standby to see that there are none."""


class Clock:
    """The wall clock of the processes of a cluster."""

    def __init__(self, file: Path) -> None:
        package = find_spec("libfaketime")
        if package is None or package.origin is None:
            pytest.skip("libfaketime is not installed")
        self._file = file
        self.jump(0)
        library = Path(package.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
        self.variables = {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip

    def jump(self, seconds: int) -> None:
        """Set the clock to the real time and some seconds."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(tmp_path / "clock")
    for name, text in clock.variables.items():
        monkeypatch.setenv(name, text)  # processes that are started from now on have this clock
    return clock


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, clock: Clock) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster", database_url, require_keys=True, key_cache_s=0.1)
    yield cluster
    cluster.close()


@pytest.mark.timeout(900)
def test_jumps_of_the_wall_clock_disturb_nothing_but_the_expiry_of_keys(cluster: Cluster, clock: Clock) -> None:
    keys = Keys(KeyStore(cluster.engine))
    lasting, brief = (
        keys.create(LOCAL_USER, name, [Scope.ADMIN], expires_at=expires_at)[1]
        for name, expires_at in (("lasting", None), ("brief", time.time() + HOUR_S / 2))
    )
    supervisors = [cluster.start_supervisor() for _ in range(2)]
    _, client = cluster.start_api()
    client.headers["Authorization"] = f"Bearer {lasting}"
    long = cluster.submit(LONG, timeout_s=600)
    cluster.until(lambda: cluster.store.get(long.id).status is JobStatus.RUNNING)
    active = cluster.active_supervisor()
    with ThreadPoolExecutor(1) as threads:
        watched = cluster.submit(priority=-9, cpus=2)
        stream = threads.submit(statuses_of_stream, client, watched.id)
        for number, seconds in enumerate(JUMPS_S, 1):
            clock.jump(seconds)
            wait_for_heartbeats(cluster)
            assert cluster.active_supervisor() == active, "no standby has taken over"
            job, retried = cluster.submit(), cluster.submit(FAILS_ONCE)
            assert [one.status for one in cluster.ended([job, retried])] == [JobStatus.SUCCEEDED] * 2, cluster.log()
            assert [cluster.store.get(one.id).attempt for one in (job, retried)] == [1, 2]
            found = cluster.store.get(long.id)
            assert (found.status, found.attempt) == (JobStatus.RUNNING, 1), cluster.log()
            listed = client.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
            assert len(listed) == 2 + 2 * number
            assert client.get("/readyz").status_code == 200
            assert not stream.done()
            is_expired = seconds > HOUR_S / 2
            expected = 401 if is_expired else 200
            cluster.until(lambda: answer_for(client, brief) == expected)  # noqa: B023
        cluster.store.request_cancel(watched.id)
        assert stream.result(60) == ["queued", "cancelled"]
    (cluster.settings.run_dir(long.id) / "end").touch()
    (ended,) = cluster.ended([long])
    assert (ended.status, ended.attempt, ended.failures) == (JobStatus.SUCCEEDED, 1, 0)
    assert [supervisor.poll() for supervisor in supervisors] == [None, None]


def wait_for_heartbeats(cluster: Cluster) -> None:
    first = cluster.store.supervisor_lease()
    assert first is not None

    def is_later() -> bool:
        lease = cluster.store.supervisor_lease()
        return lease is not None and lease.beat >= first.beat + BEATS

    cluster.until(is_later)


def answer_for(client: httpx2.Client, key: str) -> int:
    return client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code


def statuses_of_stream(client: httpx2.Client, job_id: str) -> list[str]:
    """Follow a job to its end, and return its statuses."""
    headers = {"Accept": "text/event-stream"}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    return [event["data"]["to"] for event in events if event["kind"] == "status"]
