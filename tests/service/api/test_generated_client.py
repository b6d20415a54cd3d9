"""A client generated from the OpenAPI document works."""

import importlib
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

Import = Callable[[str], ModuleType]
# Remove when the generator writes a space after the number in `!= 1and`.
pytestmark = pytest.mark.filterwarnings("ignore:invalid decimal literal:SyntaxWarning")


@pytest.fixture
def generated(api: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Import modules of a client that is generated from the server's OpenAPI document."""
    (tmp_path / "openapi.json").write_text(api.get("/openapi.json").text, "utf-8")
    (tmp_path / "generator.yaml").write_text("post_hooks: []\n", "utf-8")
    command = [str(Path(sysconfig.get_path("scripts")) / "openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--config", "generator.yaml", "--fail-on-warning"]
    command += ["--output-path", "generated_client"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: importlib.import_module(f"generated_client.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated_client"]:
        del sys.modules[name]


@pytest.mark.integration
def test_generated_client_submits_lists_reads_cancels_and_deletes_jobs(
    api: httpx2.Client, generated: Import, document: dict[str, Any]
) -> None:
    models = generated("models")
    client = generated("client").Client(str(api.base_url), raise_on_unexpected_status=True)

    def call(operation: str, *arguments: Any, **keywords: Any) -> Any:
        return generated(f"api.{operation}").sync(*arguments, client=client, **keywords)

    body = models.JobRequest(config=models.JobRequestConfig.from_dict(document), priority=2)
    job = call("jobs.submit_job", body=body, idempotency_key="once")
    assert isinstance(job, models.JobView)
    assert (job.status, job.priority, job.config.to_dict()) == (models.JobStatus.QUEUED, 2, document)
    assert call("jobs.submit_job", body=body, idempotency_key="once").id == job.id

    wrong = models.JobRequest(config=models.JobRequestConfig.from_dict({**document, "name": 3}))
    problem = call("jobs.submit_job", body=wrong)
    assert isinstance(problem, models.ProblemDetails)
    assert problem.errors[0].pointer == "/config/name"

    page = call("jobs.list_jobs", status=[models.JobStatus.QUEUED], limit=5)
    assert [listed.id for listed in page.jobs] == [job.id]
    assert call("jobs.get_job", job.id).created_at == job.created_at
    assert call("events_and_logs.read_logs", job.id) == ""

    assert call("jobs.cancel_job", job.id).status == models.JobStatus.CANCELLED
    events = call("events_and_logs.read_events", job.id, last_event_id="0", wait=5.0)
    assert [event.data.to_dict()["to"] for event in events.events] == ["queued", "cancelled"]
    assert events.is_over
    assert isinstance(call("jobs.get_job", "unknown"), models.ProblemDetails)
    assert call("jobs.delete_job", job.id) is None
    assert call("jobs.list_jobs").jobs == []


@pytest.mark.integration
def test_generated_client_reads_a_dry_run(api: httpx2.Client, generated: Import, document: dict[str, Any]) -> None:
    models = generated("models")
    client = generated("client").Client(str(api.base_url), raise_on_unexpected_status=True, timeout=100)
    body = models.JobRequest(config=models.JobRequestConfig.from_dict(document))
    dry_run = generated("api.jobs.submit_job").sync(client=client, body=body, dry_run=True)
    assert isinstance(dry_run, models.DryRun), dry_run
    assert dry_run.trainable[0].parameters > 0
    assert dry_run.config["name"] == "shapes"
