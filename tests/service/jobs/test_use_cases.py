"""The use cases of jobs over a real store, without HTTP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.jobs.errors import InvalidJob, NotOver
from service.jobs.kinds.fit import FitKind
from service.jobs.submission import JobSubmission
from service.jobs.use_cases import JobQuery, Jobs, RequestKey
from service.principal import LOCAL_USER
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.database import open_database
from service.store.datasets import DatasetStore
from service.store.errors import AlreadyEnded, KeyReused, NotEnded, NotFound, NotQueued
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job

Document = dict[str, Any]
Fail = Callable[..., Job]


@pytest.fixture
def settings(tmp_path: Path, demo_root: Path) -> Settings:
    return Settings(root=tmp_path / "root", data_roots=(demo_root.parent,), cpus=4, gpus=2)


@pytest.fixture
def store(settings: Settings) -> JobStore:
    return JobStore(open_database(settings.url_of_database))


@pytest.fixture
def datasets(settings: Settings) -> DatasetStore:
    return DatasetStore(open_database(settings.url_of_database))


@pytest.fixture
def jobs(settings: Settings, store: JobStore, datasets: DatasetStore) -> Jobs:
    return Jobs(store, settings, {"cpus": 4, "gpus": 2}, datasets)


@pytest.fixture
def leased(settings: Settings) -> LeasedStore:
    return LeasedStore(open_database(settings.url_of_database), "owner")


@pytest.fixture
def submission(small: Document) -> JobSubmission:
    return JobSubmission(small)


@pytest.fixture
def fail(leased: LeasedStore) -> Fail:
    """Make a queued job fail."""

    def fail(job_id: str, run: str | None = None) -> Job:
        job = leased.claim(job_id, [])
        assert job is not None
        if run is not None:
            job = leased.set_mlflow_run(job, run)
        return leased.move(job, JobStatus.FAILED, failure=(FailureKind.INTERNAL, "it broke"))

    return fail


def submit(jobs: Jobs, submission: JobSubmission) -> str:
    return jobs.submit(LOCAL_USER, submission)[0].job.id


def test_submitted_job_gets_the_default_resources(jobs: Jobs, submission: JobSubmission) -> None:
    details, is_new = jobs.submit(LOCAL_USER, submission)
    assert is_new
    assert (details.job.status, details.job.resources) == (JobStatus.QUEUED, {"cpus": 2, "gpus": 1})
    assert (details.config, details.attempts) == (submission.config, [])
    assert jobs.view(LOCAL_USER, details.job.id) == details
    assert details.waits_for is not None


def test_job_of_several_nodes_gets_the_default_resources_of_a_node(
    store: JobStore, settings: Settings, datasets: DatasetStore, small: Document
) -> None:
    jobs = Jobs(store, settings, {"cpus": 8, "gpus": 0, "nodes": 2}, datasets)
    document = {**small, "trainer": {**small["trainer"], "num_nodes": 2}}
    job = jobs.submit(LOCAL_USER, JobSubmission(document))[0].job
    assert (job.cpus, job.num_nodes, job.resources) == (4, 2, {"cpus": 8, "gpus": 0, "nodes": 2})
    with pytest.raises(InvalidJob) as error:
        jobs.submit(LOCAL_USER, JobSubmission(document, resources={"cpus": 5}))
    assert [problem.message for problem in error.value.problems] == [
        "got 5 for each of 2 nodes, but this server has 8 for all jobs together, so the job would wait forever; "
        "request at most 4 for each node"
    ]
    assert [queued.id for queued in LeasedStore(store._engine, "owner").queued(within={"cpus": 7, "nodes": 2})] == []


def test_job_of_more_nodes_than_the_executor_has_is_rejected(jobs: Jobs, small: Document) -> None:
    document = {**small, "trainer": {**small["trainer"], "num_nodes": 2}}
    with pytest.raises(InvalidJob) as error:
        jobs.submit(LOCAL_USER, JobSubmission(document))
    assert [(problem.path, problem.message) for problem in error.value.problems] == [
        (
            ("config", "trainer", "num_nodes"),
            "got 2, but a job of this server runs on at most 1 node(s); write at most 1, or use a server whose "
            "executor starts jobs on several nodes",
        )
    ]


def test_job_may_choose_the_type_of_its_gpus(
    store: JobStore, settings: Settings, datasets: DatasetStore, small: Document
) -> None:
    jobs = Jobs(store, settings, {"cpus": 8, "gpus": 4, "gpu_type_a100": 1, "gpu_type_v100": 3}, datasets)
    chosen = JobSubmission(small, resources={"gpus": 2}, gpu_type="v100")
    assert jobs.submit(LOCAL_USER, chosen)[0].job.gpu_type == "v100"
    messages = {
        ("h100", 1): "got 'h100'; choose one of a100, v100",
        ("a100", 0): "got 'a100', but the job requests no GPU; set gpus too",
        ("a100", 2): "got 'a100', of which this server has 1, but the job needs 2",
    }
    for (gpu_type, gpus), message in messages.items():
        with pytest.raises(InvalidJob) as error:
            jobs.check(LOCAL_USER, replace(chosen, gpu_type=gpu_type, resources={"gpus": gpus}))
        assert [(p.path, p.message) for p in error.value.problems] == [(("resources", "gpu_type"), message)]
    with pytest.raises(InvalidJob, match="the executor of this server knows no types"):
        Jobs(store, settings, {"cpus": 8, "gpus": 4}, datasets).check(LOCAL_USER, chosen)


def test_check_stores_nothing(jobs: Jobs, store: JobStore, submission: JobSubmission) -> None:
    new = jobs.check(LOCAL_USER, submission)
    assert (new.name, new.cpus, new.gpus) == (submission.config["name"], 2, 1)
    assert store.page() == []


def test_every_mistake_is_listed_with_its_path(jobs: Jobs, small: Document, store: JobStore) -> None:
    wrong = JobSubmission({**small, "nam": 1}, resources={"cpus": 5, "gpus": 3, "tpus": 1})
    with pytest.raises(InvalidJob) as refused:
        jobs.submit(LOCAL_USER, wrong)
    assert {problem.path for problem in refused.value.problems} == {
        ("config", "nam"), ("resources", "cpus"), ("resources", "gpus"), ("resources", "tpus"),
    }  # fmt: skip
    assert "this server has 4" in str(refused.value)
    assert store.page() == []


def test_key_makes_a_submission_repeatable(jobs: Jobs, submission: JobSubmission, store: JobStore) -> None:
    first, is_new = jobs.submit(LOCAL_USER, submission, RequestKey("key", "hash"))
    again, is_new_again = jobs.submit(LOCAL_USER, submission, RequestKey("key", "hash"))
    assert (is_new, is_new_again, again.job) == (True, False, first.job)
    with pytest.raises(KeyReused):
        jobs.submit(LOCAL_USER, submission, RequestKey("key", "other"))
    assert len(store.page()) == 1


def test_jobs_are_listed_newest_first_and_it_is_reported_if_more_follow(jobs: Jobs, submission: JobSubmission) -> None:
    ids = [submit(jobs, submission) for _ in range(3)]
    page, has_more = jobs.list_jobs(LOCAL_USER, JobQuery(limit=2))
    assert ([job.id for job in page], has_more) == ([ids[2], ids[1]], True)
    rest, has_more = jobs.list_jobs(LOCAL_USER, JobQuery(limit=2, before_number=page[-1].number))
    assert ([job.id for job in rest], has_more) == ([ids[0]], False)


def test_only_the_priority_of_a_queued_job_can_change(jobs: Jobs, submission: JobSubmission, fail: Fail) -> None:
    job_id = submit(jobs, submission)
    assert jobs.change_priority(LOCAL_USER, job_id, 7).job.priority == 7
    fail(job_id)
    with pytest.raises(NotQueued):
        jobs.change_priority(LOCAL_USER, job_id, 8)


def test_cancel_request_may_be_repeated(jobs: Jobs, submission: JobSubmission, leased: LeasedStore) -> None:
    queued, active = submit(jobs, submission), submit(jobs, submission)
    leased.claim(active, [])
    assert [jobs.cancel(LOCAL_USER, queued)[1] for _ in range(2)] == [True, False]
    details, is_new = jobs.cancel(LOCAL_USER, active)
    assert (details.job.status, is_new) == (JobStatus.STARTING, True)
    assert details.job.cancel_requested_at is not None
    assert jobs.cancel(LOCAL_USER, active)[0].job == details.job


def test_failed_job_cannot_be_cancelled(jobs: Jobs, submission: JobSubmission, fail: Fail) -> None:
    job_id = submit(jobs, submission)
    fail(job_id)
    with pytest.raises(AlreadyEnded):
        jobs.cancel(LOCAL_USER, job_id)


def test_only_a_job_that_has_ended_can_be_retried(jobs: Jobs, submission: JobSubmission, fail: Fail) -> None:
    job_id = submit(jobs, submission)
    with pytest.raises(NotOver, match="once it has ended"):
        jobs.retry(LOCAL_USER, job_id)
    earlier = fail(job_id)
    key = RequestKey("key", "hash")
    details, is_new = jobs.retry(LOCAL_USER, job_id, key)
    assert (details.job.retry_of, details.job.status, is_new) == (job_id, JobStatus.QUEUED, True)
    assert (details.job.name, details.job.resources, details.job.priority) == (
        earlier.name, earlier.resources, earlier.priority,
    )  # fmt: skip
    assert jobs.retry(LOCAL_USER, job_id, key) == (details, False)


def test_job_that_exceeds_the_capacity_is_not_retried(
    store: JobStore, settings: Settings, datasets: DatasetStore, jobs: Jobs, submission: JobSubmission, fail: Fail
) -> None:
    job_id = submit(jobs, submission)
    fail(job_id)
    with pytest.raises(InvalidJob, match=r"resources\.gpus: got 1, but this server has 0 for"):
        Jobs(store, settings, {"cpus": 4}, datasets).retry(LOCAL_USER, job_id)


def test_job_on_all_cores_of_two_nodes_is_retried_while_there_are_two(
    store: JobStore, settings: Settings, datasets: DatasetStore, small: Document, fail: Fail
) -> None:
    capacity = {"cpus": 8, "gpus": 0, "nodes": 2, "largest_node_cpus": 4, "largest_node_gpus": 0}
    jobs = Jobs(store, settings, capacity, datasets)
    document = {**small, "trainer": {**small["trainer"], "num_nodes": 2}}
    job_id = submit(jobs, JobSubmission(document))
    fail(job_id)
    assert jobs.retry(LOCAL_USER, job_id)[0].job.resources == {"cpus": 8, "gpus": 0, "nodes": 2}
    with pytest.raises(InvalidJob, match=r"resources\.nodes: got 2, but a job of this server runs on at most 1"):
        Jobs(store, settings, {**capacity, "nodes": 1}, datasets).retry(LOCAL_USER, job_id)


def test_retry_needs_the_type_of_gpus_of_the_job(
    store: JobStore, settings: Settings, datasets: DatasetStore, fail: Fail, small: Document
) -> None:
    capacity = {"cpus": 8, "gpus": 4, "nodes": 2, "gpu_type_v100": 4}
    document = {**small, "trainer": {**small["trainer"], "num_nodes": 2}}
    submission = JobSubmission(document, resources={"cpus": 2, "gpus": 2}, gpu_type="a100")
    jobs = Jobs(store, settings, {**capacity, "gpu_type_a100": 4}, datasets)
    job_id = submit(jobs, submission)
    fail(job_id)
    assert jobs.retry(LOCAL_USER, job_id)[0].job.gpu_type == "a100"
    with pytest.raises(InvalidJob, match="got 'a100', of which this server has 3, but the job needs 4"):
        Jobs(store, settings, {**capacity, "gpu_type_a100": 3}, datasets).retry(LOCAL_USER, job_id)
    with pytest.raises(InvalidJob, match="got 'a100'; choose one of v100"):
        Jobs(store, settings, capacity, datasets).retry(LOCAL_USER, job_id)


def test_deleted_job_is_gone_with_its_folder(
    jobs: Jobs, submission: JobSubmission, fail: Fail, leased: LeasedStore, settings: Settings
) -> None:
    job_id = submit(jobs, submission)
    folder = settings.run_dir(job_id)
    (folder / "checkpoints").mkdir(parents=True)
    with pytest.raises(NotEnded):
        jobs.delete(LOCAL_USER, job_id)
    fail(job_id, run="run")
    with pytest.raises(NotEnded, match="MLflow has not been updated"):
        jobs.delete(LOCAL_USER, job_id)
    assert folder.exists()
    leased.settle(job_id, "FAILED")
    jobs.delete(LOCAL_USER, job_id)
    assert not folder.exists()
    with pytest.raises(NotFound):
        jobs.view(LOCAL_USER, job_id)


def test_every_use_case_of_one_job_reports_an_unknown_id(jobs: Jobs) -> None:
    for ask in (jobs.view, jobs.cancel, jobs.retry, jobs.delete):
        with pytest.raises(NotFound):
            ask(LOCAL_USER, "nowhere")
    with pytest.raises(NotFound):
        jobs.change_priority(LOCAL_USER, "nowhere", 1)


def test_default_resources_are_one_gpu_with_its_share_of_cores() -> None:
    default_resources = FitKind().default_resources
    assert default_resources({"cpus": 16, "gpus": 3}) == {"cpus": 5, "gpus": 1}
    assert default_resources({"cpus": 2, "gpus": 3}) == {"cpus": 1, "gpus": 1}
    assert default_resources({"cpus": 16, "gpus": 0}) == default_resources({"cpus": 16}) == {"cpus": 16, "gpus": 0}
