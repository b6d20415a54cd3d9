"""The part of `tests.bench.scale` that measures processes: a supervisor, and an API with one client."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil

from service.api.cursor import write_cursor
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER, KeyLimits
from service.scopes import Scope
from service.states import JobStatus
from service.store.api_keys import KeyStore
from tests.bench.many_rows import FIRST_TIME, NUM_NAMES, TENANTS
from tests.bench.scale_timing import measured
from tests.service.reliability.cluster import Cluster

GOAL_MS = 100.0


def measure_processes(
    folder: Path, url: str, number: int, latencies: int, repetitions: int, servers: Sequence[psutil.Process]
) -> None:
    """Print the latency of the queue of a supervisor process, and the times of an API process."""
    cluster = Cluster(folder, url, poll_s=0.2, lease_s=15.0, key_cache_s=3600.0)
    try:
        supervisor = cluster.start_supervisor()
        cluster.until(cluster.active_supervisor)
        starts_ms = sorted(1000 * start_s(cluster) for _ in range(latencies))
        print(
            f"\nFrom the submission of a job to its claim by an idle supervisor, which looks every 200 ms: fastest "
            f"{starts_ms[0]:.0f} ms, median {statistics.median(starts_ms):.0f} ms, maximum {starts_ms[-1]:.0f} ms "
            f"({latencies} jobs)."
        )
        supervisor.terminate()
        supervisor.wait()
        keys = Keys(KeyStore(cluster.engine))
        limits = KeyLimits(requests_per_minute=10**6)
        keyed = {
            "all tenants": keys.create(LOCAL_USER, "admin", [Scope.ADMIN], limits=limits)[1],
            "one tenant": keys.create(LOCAL_USER, "blue", [Scope.JOBS_READ], tenant=TENANTS[0], limits=limits)[1],
        }
        api, client = cluster.start_api()
        columns = " | ".join(f"{who}: fastest, median, processor, ms" for who in keyed)
        print(f"\n| GET /v1/jobs | {columns} |\n|---|---|---|")
        for what, query in queries(number).items():
            answers = [
                times_of(client, [psutil.Process(api.pid), *servers], query, key, repetitions) for key in keyed.values()
            ]
            print(f"| {what} | " + " | ".join(answers) + " |", flush=True)
    finally:
        cluster.close()


def start_s(cluster: Cluster) -> float:
    """Return the seconds from the submission of a job to its claim by the supervisor process."""
    job = cluster.submit("echo '{}' > ../../result.json")
    [ended] = cluster.ended([job])
    if ended.started_at is None:
        raise RuntimeError(cluster.log())
    return ended.started_at - ended.created_at


def queries(number: int) -> dict[str, dict[str, object]]:
    """Return the parameters of each measured page of a list of `number` jobs, by name."""
    early, middle, late = (FIRST_TIME + round(share * number) for share in (0.01, 0.5, 0.99))
    places = {"first page": {}, "page in the middle": {"cursor": write_cursor(number // 2)}}
    filters: dict[str, dict[str, object]] = {
        "no filter": {},
        "limit=200": {"limit": 200},
        "status=queued": {"status": "queued"},
        "status=succeeded": {"status": "succeeded"},
        "status=failed": {"status": "failed"},
        "status=running": {"status": "running"},
        "three statuses": {"status": ["queued", "succeeded", "failed"]},
        "kind=fit": {"kind": "fit"},
        "kind=export": {"kind": "export"},
        "kind and status": {"kind": ["export", "fit"], "status": ["failed", "queued"]},
        "name": {"name": f"name{NUM_NAMES // 3}"},
        "unknown name": {"name": "nobody"},
        "name and status": {"name": "name0", "status": "failed"},
        "all names, kinds and statuses": {"kind": ["fit", "export", "batch_prediction"], "status": list(JobStatus)},
        "created_after, newest 1 %": {"created_after": late},
        "created_after, all but 1 %": {"created_after": early},
        "created_before, oldest 1 %": {"created_before": early},
        "created_before, older half": {"created_before": middle},
        "created in one hour": {"created_after": middle - 7200, "created_before": middle - 3600},
        "hour, kind and status": {
            "created_after": middle - 7200, "created_before": middle - 3600, "kind": "fit", "status": "succeeded",
        },
        "hour and name": {"created_after": middle - 7200, "created_before": middle - 3600, "name": "name0"},
    }  # fmt: skip
    return {f"{what}, {place}": {**query, **at} for what, query in filters.items() for place, at in places.items()}


def times_of(
    client: httpx2.Client, servers: Sequence[psutil.Process], query: dict[str, object], key: str, repetitions: int
) -> str:
    """Return the fastest and the median time of a page, and its processor time, which is marked if above the goal."""
    headers = {"Authorization": f"Bearer {key}"}

    def ask() -> None:
        answer = client.get("/v1/jobs", params=query, headers=headers)
        if answer.status_code != 200:
            raise RuntimeError(f"{query}: {answer.text}")

    ask()
    times = measured(ask, repetitions, servers)
    mark = " (above the goal)" if (times.processor_ms or 0.0) > GOAL_MS else ""
    return f"{times.ms[0]:.1f}, {times.median:.1f}, {times.processor_ms:.1f}{mark}"
