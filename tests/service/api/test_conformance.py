"""The real process responds to random requests as documented in the OpenAPI document."""

import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from service.api.access import OPEN_PATHS
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER, KeyLimits
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.records import Job
from service.store.supervisor_lease import LeaseStore

MakeJob = Callable[[], Job]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ORDER = ("get", "put", "patch", "post", "delete")
"""Methods that end or delete jobs come last."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.reliability)])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    # Nothing renews the lease that `watched_api` takes, and no answer depends on the speed of this machine.
    waits = {"lease_s": 3600.0, "registry_timeout_s": 300.0, "database_timeout_s": 300.0, "file_timeout_s": 300.0}
    settings = settings.model_copy(update=waits)
    if request.param == "sqlite":
        return settings
    return settings.model_copy(update={"database_url": request.getfixturevalue("postgres_url")})


@pytest.fixture
def job_ids(
    settings: Settings,
    running_job: MakeJob,
    queued_job: MakeJob,
    end_job: Callable[[Job], Job],
    record: Callable[..., Job],
) -> list[str]:
    """Ids of a finished, a running and a queued job, with the files of their run folders."""
    finished = end_job(record(running_job(), range(3), loss=0.5))
    running = record(running_job(), range(3), loss=0.5)
    for job in (finished, running):
        folder = settings.run_dir(job.id) / "attempts" / "1"
        folder.mkdir(parents=True)
        (folder / "log.txt").write_bytes(b"epoch 0\nepoch 1\n")
    result = {"summary": {"val/boxes/AP": 0.5}, "tasks": {}, "model": {}, "timing": {}, "versions": {}}
    result |= {"schema_version": 1, "split": "val", "select": {"metric": "val/boxes/AP", "mode": "max", "value": 0.5}}
    run_dir = settings.run_dir(finished.id)
    (run_dir / "result.json").write_text(json.dumps({**result, "val": None}), "utf-8")
    (run_dir / "predictions").mkdir()
    (run_dir / "predictions" / "boxes.coco.json").write_text("[]", "utf-8")
    return [finished.id, running.id, queued_job().id]


@pytest.fixture
def watched_api(live_api: Any, settings: Settings) -> httpx2.Client:
    """The real API process, with a supervisor that has taken the lease."""
    assert LeaseStore(open_database(settings.url_of_database), "tests", "another host").take(None, None)
    client: httpx2.Client = live_api.client
    return client


def check_operations(api: httpx2.Client, job_ids: list[str], document: dict[str, Any], max_examples: int) -> None:
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())

    @schema.hook
    def map_case(_context: Any, case: Any) -> Any:
        """Request existing jobs most of the time, and avoid long waits."""
        aim = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
        path_parameters, query = case.path_parameters or {}, case.query or {}
        if aim % 4 and "job_id" in path_parameters:
            path_parameters["job_id"] = job_ids[aim % len(job_ids)]
        if aim % 4 and "task" in path_parameters:
            # Only the finished job has results.
            path_parameters |= {"job_id": job_ids[0], "task": "boxes"}
        if aim % 4 and "path" in path_parameters:
            path_parameters["path"] = ("result.json", "attempts/1/log.txt")[aim % 8 // 4]
        if aim % 2 and case.path == "/v1/jobs" and isinstance(case.body, dict) and "config" in case.body:
            case.body["config"] = document
            # A dry run would start a process that imports torch.
            query.pop("dry_run", None)
        if aim % 2 and case.path == "/v1/datasets" and isinstance(case.body, dict) and "folder" in case.body:
            # The folder does not exist: a check would start a process.
            case.body["folder"] = "missing"
        if case.path.endswith("/logs"):
            query.pop("follow", None)
        if isinstance(wait := query.get("wait"), float | int) and 0 < wait <= 30:
            query["wait"] = 0.01
        return case

    operations = sorted((found.ok() for found in schema.get_all_operations()), key=lambda one: ORDER.index(one.method))
    assert len(operations) >= 25
    responses: Counter[tuple[str, int]] = Counter()
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases = operation.as_strategy(generation_mode=mode)
            check_cases(cases, max_examples, api, operation.label, responses)
    print(f"{responses.total()} requests to {len(operations)} operations:", sorted(_by_status(responses).items()))
    # At least one request of each operation was successful.
    for operation in operations:
        if "{name}" not in operation.path and operation.label != "POST /v1/datasets":
            assert any(label == operation.label and status < 300 for label, status in responses), operation.label


def _by_status(responses: Counter[tuple[str, int]]) -> Counter[int]:
    numbers: Counter[int] = Counter()
    for (_, status), number in responses.items():
        numbers[status] += number
    return numbers


def check_cases(
    cases: Any, max_examples: int, api: httpx2.Client, label: str, responses: Counter[tuple[str, int]]
) -> None:
    base_url = str(api.base_url).rstrip("/")
    headers = {name: api.headers[name] for name in ("authorization",) if name in api.headers}

    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def check(case: Any) -> None:
        response = case.call(base_url=base_url, timeout=300, headers=headers)
        responses[label, response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    # Requests without parameters cannot be invalid.
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):
        check()


@pytest.mark.integration
def test_random_requests_get_documented_responses(
    watched_api: httpx2.Client, job_ids: list[str], document: dict[str, Any]
) -> None:
    check_operations(watched_api, job_ids, document, 8)


@pytest.fixture
def api_key(settings: Settings) -> str:
    """A key that may do everything; as soon as it exists, every request needs a key."""
    keys = Keys(KeyStore(open_database(settings.url_of_database)))
    return keys.create(LOCAL_USER, "all", [Scope.ADMIN], limits=KeyLimits(requests_per_minute=10**6))[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("has_key", [False, True])
def test_many_random_requests_get_documented_responses(
    watched_api: httpx2.Client,
    job_ids: list[str],
    document: dict[str, Any],
    has_key: bool,
    request: pytest.FixtureRequest,
) -> None:
    if has_key:
        watched_api.headers["Authorization"] = f"Bearer {request.getfixturevalue('api_key')}"
    check_operations(watched_api, job_ids, document, 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("api_key")
def test_random_requests_without_a_key_to_a_service_with_keys_are_rejected(watched_api: httpx2.Client) -> None:
    schema = schemathesis.openapi.from_dict(watched_api.get("/openapi.json").json())
    responses: Counter[tuple[str, int]] = Counter()
    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path not in OPEN_PATHS:
            cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            check_cases(cases, 10, watched_api, operation.label, responses)
    assert {status for _, status in responses} == {401}
