"""`pyramidion batch-predict`, with the test as the supervisor of a service in this process."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipelines.run_folder.events import WorkData
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.batch_prediction import BatchImageCounts, BatchPredictionResult, FailedImage, PredictedTask
from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.registry import Registry
from service.client.client import URL_VARIABLE, Client
from service.client.datasets import wait_until_checked
from service.client.errors import ServiceError
from service.commands.batch_predict import batch_predict
from service.commands.jobs import results
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from tests.service.api.servers import serving
from tests.service.waiting import wait_until

COCO = '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5, "file_name": "a.png"}]'


@pytest.fixture(scope="module")
def settings(mlflow_runs_root: Path, service_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(root / "photos/a.png")
    client = connect(service_registry.store)
    client.create_registered_model("commanded")
    client.create_model_version("commanded", "file:///nowhere")
    service_registry.set_alias("commanded", "champion", 1)
    return Settings(root=mlflow_runs_root, data_roots=(root,), cpus=2, gpus=0, database_url=f"sqlite:///{root}/jobs.db")


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(settings) as client:
            yield str(client.base_url)


@pytest.fixture
def run(url: str) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(batch_predict, arguments, env={URL_VARIABLE: url})


@pytest.fixture
def supervised(settings: Settings) -> Iterator[None]:
    """Run the next batch prediction as a supervisor would: it predicts one image and cannot read another."""
    engine = open_database(settings.url_of_database)
    store, leases = JobStore(engine), LeasedStore(engine, "tests")

    def supervise() -> None:
        (job, *_) = wait_until(
            lambda: store.page(statuses=[JobStatus.QUEUED], kinds=["batch_prediction"]), "a batch prediction"
        )
        claimed = leases.claim(job.id, [])
        assert claimed is not None
        progress = WorkData(done=2, total=2, unit="images", per_s=4.0, left_s=0.0)
        event = {"time": 1.0, "kind": "progress", "epoch": 0, "step": 2, "data": progress.to_data()}
        running = leases.record_events(leases.move(claimed, JobStatus.RUNNING), [event], 1)
        run_dir = RunDir.of(settings.run_dir(job.id))
        write_atomic(run_dir.predictions / "boxes.coco.json", COCO)
        write_atomic(run_dir.images_csv, "image_id,file_name\n1,a.png\n2,b.png\n")
        result = BatchPredictionResult(
            model="commanded", version=1, versions={}, settings={},
            images=BatchImageCounts(total=2, predicted=1, failed=1, damaged=0),
            failed=(FailedImage(file="b.png", reason="is not an image"),),
            tasks={"boxes": PredictedTask(kind="detection", num_rows=1, files=("predictions/boxes.coco.json",))},
        )  # fmt: skip
        write_atomic(run_dir.result, result.model_dump_json())
        leases.end_attempt(running, "succeeded", 0)
        leases.move(leases.move(running, JobStatus.FINALIZING), JobStatus.SUCCEEDED)

    thread = threading.Thread(target=supervise)
    thread.start()
    yield
    thread.join(30)
    engine.dispose()


def test_job_is_submitted_and_its_id_is_printed(run: Callable[..., Result], url: str) -> None:
    options = ("--folder", "photos", "--class", "a", "--class", "b", "--threshold", "0.4", "--timeout", "60")
    done = run("commanded@champion", *options)
    assert done.exit_code == 0, done.output
    with Client(url) as client:
        job = client.job(done.output.strip())
        client.cancel(job.id)
    assert job.config == {
        "folder": "photos", "classes": ["a", "b"], "threshold": 0.4, "model": "commanded", "version": 1
    }  # fmt: skip
    assert job.resources.timeout_s == 60


@pytest.mark.parametrize("form", ["folder", "file", "archive"])
def test_images_of_this_machine_are_uploaded(
    form: str, run: Callable[..., Result], url: str, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "notes.txt").write_text("not sent")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "tar", folder))
    given = {"folder": folder, "file": folder / "a.png", "archive": archive}[form]
    done = run("commanded", "--images", str(given), "--threshold", "0.4")
    assert done.exit_code == 0, done.output
    with Client(url) as client:
        job = client.job(done.output.strip())
        version = wait_until_checked(client, job.dataset or "")
        client.cancel(job.id)
    assert (version.status, version.num_images, job.config["threshold"]) == ("ready", 1, 0.4)
    files = settings.datasets_dir / job.config["folder"]
    assert sorted(path.name for path in files.iterdir()) == ["a.png", *(["notes.txt"] if form == "archive" else [])]


@pytest.mark.usefixtures("supervised")
def test_results_are_downloaded_when_the_job_has_ended(run: Callable[..., Result], url: str, tmp_path: Path) -> None:
    done = run("commanded", "--folder", "photos", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "2/2 images  4.0 images/s" in done.output
    assert "1 of 2 images predicted, 0 of them damaged" in done.output
    assert "no prediction: b.png is not an image" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"boxes.coco.json", "images.csv", "result.json"}
    assert (tmp_path / "out/boxes.coco.json").read_text() == COCO
    shown = CliRunner().invoke(results, [done.output.split()[0]], env={URL_VARIABLE: url})
    assert "boxes: 1 row" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["commanded"], "pass --folder DIR"),
        (["commanded", "--folder", "x", "--on-error", "stop"], "'skip', 'fail'"),
        (["commanded", "--dataset", "x", "--images", "."], "got both --dataset and --images"),
        (["commanded", "--images", "missing"], "Path 'missing' does not exist"),
    ],
)
def test_incomplete_command_is_a_usage_error(run: Callable[..., Result], arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_unknown_model_is_an_error_of_the_service(run: Callable[..., Result]) -> None:
    done = run("nothing", "--folder", "photos")
    assert isinstance(done.exception, ServiceError)
    assert "got 'nothing', which is not registered" in str(done.exception)
