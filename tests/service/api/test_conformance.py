"""The real process responds to random requests as documented in the OpenAPI document."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.worst_images import WorstImages
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER, KeyLimits
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.records import Job
from service.store.supervisor_lease import LeaseStore
from tests.service.api.test_analyses import FOUND, TRUTH

MakeJob = Callable[[], Job]


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
    boxes = {"kind": "detection", "num_images": 1, **score_coco(TRUTH, FoundBoxes.from_rows(FOUND))}
    result = {"summary": {"val/boxes/AP": 0.5}, "tasks": {"boxes": boxes}, "model": {}, "timing": {}, "versions": {}}
    result |= {"schema_version": 1, "split": "val", "select": {"metric": "val/boxes/AP", "mode": "max", "value": 0.5}}
    run_dir = settings.run_dir(finished.id)
    (run_dir / "result.json").write_text(json.dumps({**result, "val": None}), "utf-8")
    (run_dir / "predictions").mkdir()
    (run_dir / "predictions" / "boxes.coco.json").write_text("[]", "utf-8")
    (run_dir / "ground_truth").mkdir()
    truth = {**TRUTH, "images": [{"id": 1, "file_name": "1.png", "source": "s"}]}
    (run_dir / "ground_truth" / "boxes.coco.json").write_text(json.dumps(truth), "utf-8")
    worst = WorstImages(
        kind="detection", iou=0.5, thresholds={}, num_images=0, num_images_with_errors=0, images=[], num_suspicions=0,
        suspicions=[],
    )  # fmt: skip
    write_atomic(RunDir.of(run_dir).worst("boxes"), worst.model_dump_json())
    return [finished.id, running.id, queued_job().id]


@pytest.fixture
def watched_api(live_api: Any, settings: Settings) -> httpx2.Client:
    """The real API process, with a supervisor that has taken the lease."""
    assert LeaseStore(open_database(settings.url_of_database), "tests", "another host").take(None, None)
    client: httpx2.Client = live_api.client
    return client


@pytest.mark.integration
def test_random_requests_get_documented_responses(
    watched_api: httpx2.Client, job_ids: list[str], document: dict[str, Any]
) -> None:
    from tests.service.api.random_requests import check_operations

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
    from tests.service.api.random_requests import check_operations

    if has_key:
        watched_api.headers["Authorization"] = f"Bearer {request.getfixturevalue('api_key')}"
    check_operations(watched_api, job_ids, document, 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("api_key")
def test_random_requests_without_a_key_to_a_service_with_keys_are_rejected(watched_api: httpx2.Client) -> None:
    from tests.service.api.random_requests import statuses_without_a_key

    assert statuses_without_a_key(watched_api, 10) == {401}
