"""The complete document of a job, and what differs from the defaults."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import yaml

from pipelines.run_folder.layout import RunDir
from pipelines.spec.batch_prediction import BatchPredictionSpec
from pipelines.spec.job import JobSpec
from service.failure_advice import ADVICE
from service.jobs.complete_document import complete_document
from service.settings import Settings
from service.states import FailureKind
from service.store.jobs import JobStore
from service.store.records import Job, NewJob


@pytest.fixture
def settings(shared_settings: Settings) -> Settings:
    return shared_settings


@pytest.fixture
def api(shared_api: httpx2.Client) -> httpx2.Client:
    return shared_api


def test_document_has_all_defaults_and_names_the_fields_that_differ(
    api: httpx2.Client, queued_job: Callable[[], Job], document: dict[str, Any]
) -> None:
    answer = api.get(f"/v1/jobs/{queued_job().id}/document").json()
    assert answer["document"]["seed_everything"] == 0
    assert JobSpec.model_validate(answer["document"]) == JobSpec.model_validate(document)
    differs = set(answer["differs"])
    assert {
        "/name",
        "/trainer/max_epochs",
        "/model/neck/channels",
        "/model/tasks/boxes/num_convs",
        "/tracking",
    } <= differs
    assert {"/data/sources/shapes/labels/0/format", "/data/image_size"} <= differs
    assert not any(pointer.startswith(("/seed_everything", "/evaluation")) for pointer in differs)


def test_run_that_has_started_shows_its_own_document(
    api: httpx2.Client, queued_job: Callable[[], Job], document: dict[str, Any], settings: Settings
) -> None:
    job = queued_job()
    run_dir = RunDir.of(settings.run_dir(job.id))
    run_dir.path.mkdir(parents=True)
    written = {**document, "seed_everything": 7}
    run_dir.config_yaml.write_text(yaml.safe_dump(written), encoding="utf-8")
    answer = api.get(f"/v1/jobs/{job.id}/document").json()
    assert answer["document"]["seed_everything"] == 7
    assert "/seed_everything" in answer["differs"]
    run_dir.config_yaml.write_text("{", encoding="utf-8")
    assert api.get(f"/v1/jobs/{job.id}/document").json()["document"]["seed_everything"] == 0


def test_document_of_another_kind_has_its_own_defaults(api: httpx2.Client, store: JobStore) -> None:
    config = {"model": "shapes", "version": 1, "folder": "images/new", "classes": ["a/b"]}
    new = NewJob("shapes", config, 0, 1, 0, kind="batch_prediction")
    answer = api.get(f"/v1/jobs/{store.submit(new)[0].id}/document").json()
    assert (answer["document"]["on_error"], answer["document"]["batch_size"]) == ("skip", 8)
    assert answer["differs"] == ["/version", "/folder", "/classes", "/model"]


def test_document_that_this_version_does_not_accept_is_shown_as_it_is(tmp_path: Any) -> None:
    config = {"from_the_future": 1}
    assert complete_document(BatchPredictionSpec, config, RunDir.of(tmp_path)) == (config, None)


def test_every_kind_of_failure_says_what_to_do() -> None:
    assert ADVICE.keys() == set(FailureKind)
    assert all(advice.endswith(".") and advice.count(".") == 1 for advice in ADVICE.values())
