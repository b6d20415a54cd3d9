"""Random requests that follow, or violate, an OpenAPI document, and checks of their responses.

Tests import this module when they run, since schemathesis takes seconds to import.
"""

import contextlib
import zlib
from collections import Counter
from typing import Any

import httpx2
import hypothesis
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from service.api.access import OPEN_PATHS

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ORDER = ("get", "put", "patch", "post", "delete")
"""Methods that end or delete jobs come last."""
PICTURE = "GET /v1/jobs/{job_id}/results/{task}/images/{image_id}/picture"
NEED_MORE_DATA = frozenset({"POST /v1/datasets", "GET /v1/compare", "DELETE /v1/sweeps/{sweep_id}", PICTURE})
"""Operations that succeed only with an archive, two trained jobs, an ended sweep, or images; others have names."""


def check_operations(api: httpx2.Client, job_ids: list[str], document: dict[str, Any], max_examples: int) -> None:
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    rate = {"kind": "float", "low": 1e-4, "high": 1e-2}
    sweep = {"document": document, "search": {"model.optimizer.lr": rate}, "trials": 2}
    sweep_id = api.post("/v1/sweeps", json={"config": sweep}).json()["id"]

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
        if aim % 4 and "sweep_id" in path_parameters:
            path_parameters["sweep_id"] = sweep_id
        if aim % 2 and case.path == "/v1/sweeps" and isinstance(case.body, dict) and "config" in case.body:
            case.body["config"] = sweep
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
        if "{name}" not in operation.path and operation.label not in NEED_MORE_DATA:
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


def statuses_without_a_key(api: httpx2.Client, max_examples: int) -> set[int]:
    """Return the statuses of valid requests to all paths that need a key."""
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    responses: Counter[tuple[str, int]] = Counter()
    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path not in OPEN_PATHS:
            cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            check_cases(cases, max_examples, api, operation.label, responses)
    return {status for _, status in responses}
