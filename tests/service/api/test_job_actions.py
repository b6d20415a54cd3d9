"""Changing the priority of jobs; cancelling, retrying and deleting them."""

from collections.abc import Callable

import httpx2

from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from tests.service.api.conftest import run_to_failure

Submit = Callable[..., str]


def test_only_a_queued_job_can_change_its_priority(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    job_id = submit()
    assert api.patch(f"/v1/jobs/{job_id}", json={"priority": -5}).json()["priority"] == -5
    leases.claim(job_id, [])
    answer = api.patch(f"/v1/jobs/{job_id}", json={"priority": 5})
    assert answer.status_code == 409
    assert "is starting" in answer.json()["detail"]


def test_cancelling_a_queued_job_twice_succeeds(api: httpx2.Client, submit: Submit) -> None:
    url = f"/v1/jobs/{submit()}"
    first = api.post(f"{url}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "cancelled")
    again = api.post(f"{url}/cancel")
    assert (again.status_code, again.json()) == (200, first.json())


def test_cancelling_a_running_job_records_the_request(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    job_id = submit()
    leases.claim(job_id, [])
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("starting", True)


def test_failed_job_cannot_be_cancelled(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    job_id = submit()
    run_to_failure(leases, job_id)
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 409
    assert api.get(f"/v1/jobs/{job_id}").json()["status"] == "failed"


def test_retrying_an_ended_job_creates_a_new_one(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    job_id = submit(priority=4, resources={"cpus": 1, "timeout_s": 9})
    assert api.post(f"/v1/jobs/{job_id}/retry").status_code == 409
    run_to_failure(leases, job_id)
    answer = api.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again"})
    job, earlier = answer.json(), api.get(f"/v1/jobs/{job_id}").json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["retry_of"]) == ("queued", job_id)
    assert [job[key] for key in ("config", "priority", "resources")] == [
        earlier[key] for key in ("config", "priority", "resources")
    ]
    replayed = api.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again"})
    assert replayed.json()["id"] == job["id"]


def test_ended_job_is_deleted_with_its_folder(
    api: httpx2.Client, submit: Submit, leases: LeasedStore, settings: Settings
) -> None:
    job_id = submit()
    folder = settings.run_dir(job_id)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 409
    assert folder.exists()
    run_to_failure(leases, job_id)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not folder.exists()
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 404
    # A slow disk must not hold up the threads that write to the database.
    answered = 'pyramidion_pool_last_answer_timestamp_seconds{pool="deletions"} '
    assert float(api.get("/metrics").text.partition(answered)[2].partition("\n")[0]) > 0


def test_job_without_a_folder_can_be_deleted(api: httpx2.Client, submit: Submit, store: JobStore) -> None:
    job_id = submit()
    store.request_cancel(job_id)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_job_is_not_deleted_before_mlflow_has_its_final_status(
    api: httpx2.Client, submit: Submit, leases: LeasedStore, settings: Settings
) -> None:
    job_id = submit()
    job = leases.claim(job_id, [])
    assert job is not None
    job = leases.set_mlflow_run(job, "run")
    leases.move(job, JobStatus.FAILED, failure=(FailureKind.INTERNAL, "it broke"))
    settings.run_dir(job_id).mkdir(parents=True)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 409
    assert settings.run_dir(job_id).exists()
    leases.settle(job_id, "FAILED")
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
