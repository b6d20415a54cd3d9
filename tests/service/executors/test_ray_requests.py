"""The requests of the executor `ray` to a cluster, which is a table behind Ray's REST API."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import AttemptDir
from service.doctor import servers
from service.executors.base import AttemptSpec, ExecutorUnavailable, Observation
from service.executors.ray import cluster
from service.executors.ray.executor import RayExecutor
from service.executors.ray.order import OrderFile
from service.executors.ray.places import folder_of, write_places
from service.executors.ray.states import FOLDER_KEY, submission_id
from service.executors.registry import capacity_of_service
from service.executors.shim_contract import ORDER_PREFIX
from service.jobs.kinds.fit import FitKind
from service.jobs.submission import resource_problems
from service.resources import on_largest_node
from service.settings import Settings
from tests.service.executors.ray_stand_in import TOKEN, RayTable, ray_table

SECRET = "s3cret"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayTable]:
    for name in (cluster.TOKEN, cluster.TOKEN_PATH, cluster.AUTH_MODE):
        monkeypatch.delenv(name, raising=False)
    # Each request is answered anew, and a failed one is repeated at once.
    monkeypatch.setattr(cluster, "FRESH_S", 0.0)
    monkeypatch.setattr(cluster, "SILENCE_S", 0.0)
    with ray_table() as table:
        yield table


@pytest.fixture
def executor(table: RayTable, tmp_path: Path) -> RayExecutor:
    return RayExecutor.from_settings(Settings(root=tmp_path, executor="ray", ray_address=table.address))


@pytest.fixture
def spec(tmp_path: Path) -> AttemptSpec:
    folder = tmp_path / "jobs" / "j1" / "attempts" / "1"
    return AttemptSpec(folder, ("sh", "-c", "x"), {"KEY": SECRET}, tmp_path, 8.0, {"cpus": 2, "gpus": 1})


def name_of(spec: AttemptSpec) -> str:
    return submission_id(spec.folder.resolve())


def run(executor: RayExecutor, table: RayTable, spec: AttemptSpec, **job: str) -> None:
    """Start an attempt whose shim runs, or has run, while Ray's table says more about its job."""
    executor.start(spec)
    ShimProcess(pid=1).write(AttemptDir(spec.folder).run_json)
    table.jobs[name_of(spec)] |= job


def test_capacity_is_that_of_the_living_nodes(executor: RayExecutor) -> None:
    expected = {"cpus": 6, "gpus": 1, "nodes": 2, "largest_node_cpus": 4, "largest_node_gpus": 1}
    assert executor.capacity() == expected


def test_job_gets_at_most_the_resources_of_one_node(executor: RayExecutor) -> None:
    capacity = executor.capacity()
    assert FitKind().default_resources(on_largest_node(capacity)) == {"cpus": 4, "gpus": 1}
    assert resource_problems({"cpus": 4, "gpus": 1}, capacity) == []
    messages = [problem.message for problem in resource_problems({"cpus": 5, "gpus": 2}, capacity)]
    assert "this server has 1 for all jobs together" in messages[0]
    assert messages[1:] == ["got 5, but no node of the cluster has more than 4"]


def test_cluster_without_cores_is_not_available_yet(executor: RayExecutor, table: RayTable) -> None:
    table.nodes.clear()
    with pytest.raises(ExecutorUnavailable, match="has no node with cores yet"):
        executor.capacity()


def test_attempt_is_submitted_once_without_its_secrets(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    executor.start(spec)
    executor.start(spec)
    [job] = table.jobs.values()
    assert job["submission_id"] == name_of(spec)
    assert (job["entrypoint_num_cpus"], job["entrypoint_num_gpus"]) == (2, 1)
    assert job["metadata"] == {FOLDER_KEY: str(spec.folder)}
    assert job["runtime_env"] == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "18"}}
    assert SECRET not in str(job)
    assert executor.poll(spec.folder).kind == "pending"


def test_submission_that_another_process_made_is_no_error(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    executor.start(spec)
    executor._cluster.submit(name_of(spec), "exec true", entrypoint_num_cpus=1)
    assert len(table.jobs) == 1


def test_attempt_is_not_submitted_after_its_time(executor: RayExecutor, table: RayTable, spec: AttemptSpec) -> None:
    late = AttemptSpec(**{**vars(spec), "start_until": time.monotonic() - 1.0})
    executor.start(late)
    assert not table.jobs
    assert executor.poll(spec.folder) == Observation("absent")


def test_request_that_ray_refuses_is_an_error_of_the_attempt(executor: RayExecutor, spec: AttemptSpec) -> None:
    with pytest.raises(OSError, match=r"answers 400 .*too many cores"):
        executor.start(AttemptSpec(**{**vars(spec), "resources": {"cpus": 65}}))
    assert list(spec.folder.iterdir()) == []


def test_job_that_ray_ended_before_it_ran_is_submitted_again(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    executor.start(spec)
    table.jobs[name_of(spec)] |= {"status": "FAILED", "message": "the node was removed"}
    assert executor.poll(spec.folder).kind == "absent"
    executor.start(spec)
    assert executor.poll(spec.folder).kind == "pending"


def test_stopped_attempt_that_still_waits_never_runs(executor: RayExecutor, table: RayTable, spec: AttemptSpec) -> None:
    executor.start(spec)
    executor.stop(spec.folder)
    assert table.requests[-1] == f"POST /api/jobs/{name_of(spec)}/stop"
    assert executor.poll(spec.folder).kind == "lost"
    assert executor.sweep(spec.folder)
    assert list(spec.folder.iterdir()) == []


def test_running_attempt_is_swept_by_a_job_on_its_node(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    run(executor, table, spec, status="RUNNING", driver_node_id="n2")
    assert not executor.sweep(spec.folder)
    killer = table.jobs[f"{name_of(spec)}-kill"]
    assert killer["entrypoint_label_selector"] == {"ray.io/node-id": "n2"}
    assert killer["entrypoint_num_cpus"] == 0
    killer["status"] = "FAILED"
    assert not executor.sweep(spec.folder)
    assert table.jobs[f"{name_of(spec)}-kill"]["status"] == "PENDING"
    table.jobs[f"{name_of(spec)}-kill"]["status"] = "SUCCEEDED"
    assert executor.sweep(spec.folder)


@pytest.fixture
def on_two_nodes(spec: AttemptSpec) -> AttemptSpec:
    return AttemptSpec(**{**vars(spec), "resources": {"cpus": 4, "gpus": 2, "nodes": 2}, "num_nodes": 2})


def test_driver_of_several_nodes_holds_no_resources_and_gets_those_of_each_node(
    executor: RayExecutor, table: RayTable, on_two_nodes: AttemptSpec
) -> None:
    executor.start(on_two_nodes)
    [job] = table.jobs.values()
    assert job["entrypoint"].endswith(f"ray.group_driver {on_two_nodes.folder} 2 2 1")
    assert job["entrypoint_num_cpus"] == 0
    assert job["entrypoint_label_selector"] == {"ray.io/node-id": "in(n1,n2)"}
    assert job["runtime_env"]["env_vars"].keys() >= {"RAY_JOB_STOP_WAIT_TIME_S", "PYTHONSAFEPATH"}
    table.jobs[name_of(on_two_nodes)]["status"] = "RUNNING"
    assert executor.poll(on_two_nodes.folder).kind == "pending"


def test_type_of_gpus_is_a_label_of_nodes(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec, on_two_nodes: AttemptSpec
) -> None:
    table.nodes[0] = {**table.nodes[0], "labels": {"ray.io/accelerator-type": "A100"}}
    assert executor.capacity()["gpu_type_A100"] == 1
    executor.start(AttemptSpec(**{**vars(spec), "gpu_type": "A100"}))
    assert table.jobs[name_of(spec)]["entrypoint_label_selector"] == {"ray.io/accelerator-type": "A100"}
    table.jobs.clear()
    executor.start(AttemptSpec(**{**vars(on_two_nodes), "gpu_type": "A100"}))
    assert table.jobs[name_of(spec)]["entrypoint"].endswith(f"ray.group_driver {spec.folder} 2 2 1 A100")


def test_attempt_on_two_nodes_has_exited_once_both_have(
    executor: RayExecutor, table: RayTable, on_two_nodes: AttemptSpec
) -> None:
    folder = on_two_nodes.folder
    run(executor, table, on_two_nodes, status="RUNNING", driver_node_id="n1")
    write_places(folder, ["n1", "n2"])
    AttemptExit(code=75).write(AttemptDir(folder).exit_json)
    assert executor.poll(folder).kind == "alive"
    table.jobs[name_of(on_two_nodes)]["status"] = "FAILED"
    assert executor.poll(folder) == Observation("exited", 75)
    assert not executor.sweep(folder)
    assert table.jobs[f"{name_of(on_two_nodes)}-1-kill"]["entrypoint_label_selector"] == {"ray.io/node-id": "n2"}
    AttemptExit(code=75).write(AttemptDir(folder_of(folder, 1)).exit_json)
    assert executor.sweep(folder)


def test_attempt_on_two_nodes_is_killed_on_both(
    executor: RayExecutor, table: RayTable, on_two_nodes: AttemptSpec
) -> None:
    run(executor, table, on_two_nodes, status="RUNNING", driver_node_id="n2")
    write_places(on_two_nodes.folder, ["n1", "n2"])
    executor.stop(on_two_nodes.folder, kill=True)
    killers = {name: job for name, job in table.jobs.items() if name.endswith("-kill")}
    assert [job["entrypoint_label_selector"]["ray.io/node-id"] for job in killers.values()] == ["n1", "n2"]
    assert {job["metadata"][FOLDER_KEY] for job in killers.values()} == {str(on_two_nodes.folder)}
    for name in killers:
        assert not executor.sweep(on_two_nodes.folder)
        table.jobs[name]["status"] = "SUCCEEDED"
    assert executor.sweep(on_two_nodes.folder)


def test_attempt_on_a_lost_node_is_not_swept_before_the_node_must_have_ended(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    run(executor, table, spec, status="FAILED", driver_node_id="n3")
    assert not executor.sweep(spec.folder)
    assert f"{name_of(spec)}-kill" not in table.jobs
    AttemptExit(code=75).write(AttemptDir(spec.folder).exit_json)
    assert executor.sweep(spec.folder)


def test_sweep_removes_the_orders_of_a_driver_and_a_supervisor_that_were_killed(
    executor: RayExecutor, table: RayTable, spec: AttemptSpec
) -> None:
    executor.start(spec)
    assert OrderFile(spec.folder).take(()) is not None
    (spec.folder / f"{ORDER_PREFIX}unfinished").write_text(SECRET)
    table.jobs[name_of(spec)] |= {"status": "FAILED", "driver_node_id": "n2"}
    assert not executor.sweep(spec.folder)
    table.jobs[f"{name_of(spec)}-kill"]["status"] = "SUCCEEDED"
    assert executor.sweep(spec.folder)
    assert list(spec.folder.iterdir()) == []


def test_orphans_are_swept_and_others_are_left(executor: RayExecutor, table: RayTable, spec: AttemptSpec) -> None:
    known, orphan = (AttemptSpec(**{**vars(spec), "folder": spec.folder.with_name(n)}) for n in "23")
    for one in (known, orphan):
        executor.start(one)
    table.jobs["mine"] = {"submission_id": "mine", "status": "RUNNING", "metadata": {}}
    executor.sweep_orphans([known.folder], spec.folder.parents[2])
    assert table.requests[-1] == f"POST /api/jobs/{name_of(orphan)}/stop"
    assert executor.poll(known.folder).kind == "pending"
    assert executor.poll(orphan.folder).kind == "lost"


def test_exit_is_seen_while_ray_does_not_answer(executor: RayExecutor, table: RayTable, spec: AttemptSpec) -> None:
    executor.start(spec)
    table.status = 500
    with pytest.raises(ExecutorUnavailable, match=r"answers 500 .*no agent"):
        executor.poll(spec.folder)
    AttemptExit(code=0).write(AttemptDir(spec.folder).exit_json)
    assert executor.poll(spec.folder) == Observation("exited", 0)


def test_address_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    with ray_table() as table:
        address = table.address
    executor = RayExecutor.from_settings(Settings(root=tmp_path, executor="ray", ray_address=address))
    with pytest.raises(ExecutorUnavailable, match=f"Ray at {address} does not answer"):
        executor.capacity()


def test_token_is_sent_and_a_missing_one_is_reported(
    executor: RayExecutor, table: RayTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table.has_token = True
    with pytest.raises(ExecutorUnavailable, match="requires a token, and the service has none; set RAY_AUTH_TOKEN"):
        executor.capacity()
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv(cluster.TOKEN_PATH, str(file))
    assert executor.capacity()["cpus"] == 6
    monkeypatch.setenv(cluster.TOKEN, "another")
    with pytest.raises(ExecutorUnavailable, match="has another one"):
        executor.capacity()


def test_capacity_of_the_service_is_kept_while_ray_does_not_answer(table: RayTable, tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, executor="ray", ray_address=table.address)
    before = dict(capacity_of_service(settings))
    table.status = 500
    assert dict(capacity_of_service(settings)) == before
    assert before["cpus"] == 6


def test_doctor_reports_the_capacity_of_a_cluster_or_its_silence(table: RayTable, tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, executor="ray", ray_address=table.address)
    results = []
    for status in (500, 200):
        table.status = status
        results += servers.cluster(settings)
    assert [(result.outcome, result.detail) for result in results] == [
        ("failed", f"Ray at {table.address} answers 500 to GET /api/v0/nodes?limit=10000: AgentError: no agent"),
        ("ok", "ray: 6 cores, 1 GPUs"),
    ]
    assert list(servers.cluster(Settings(root=tmp_path))) == []
