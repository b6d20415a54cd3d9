"""Images that take long to decode, or much memory, with a real API and a real predictor."""

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.tracking.model_versions import ModelVersion
from service.settings import Settings
from tests.service.api.servers import serving
from tests.service.conftest import jpeg
from tests.service.decoding.slow_jpeg import slow_jpeg
from tests.service.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def rest(mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with serving(Settings(root=mlflow_runs_root, predict_timeout_s=120)) as client:
        client.timeout = httpx2.Timeout(120)
        yield client


def predict(rest: httpx2.Client, model: ModelVersion, image: bytes) -> httpx2.Response:
    return rest.post(f"/v1/models/{model.name}/predict?version=1", files={"image": ("image.jpg", image)})


def processes(module: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if module in child.cmdline():
                found.append(child)
        except psutil.Error:
            pass
    return found


def test_slow_images_delay_no_other_client(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    assert predict(rest, shapes[0], jpeg(48, 64)).status_code == 200
    image = slow_jpeg(7000, 500)
    answers: list[httpx2.Response] = []
    clients = [threading.Thread(target=lambda: answers.append(predict(rest, shapes[0], image))) for _ in range(2)]
    for client in clients:
        client.start()
    waited_s = []
    while any(client.is_alive() for client in clients):
        started = time.monotonic()
        assert predict(rest, shapes[0], jpeg(48, 64)).status_code == 200
        waited_s.append(time.monotonic() - started)
        time.sleep(0.1)
    for answer in answers:
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image")
        assert "takes more than 10 s to decode" in answer.json()["detail"]
    print(f"{len(image)} bytes; other clients waited {np.median(waited_s):.3f} s (median), {max(waited_s):.2f} s (max)")
    assert np.median(waited_s) < 1


def test_client_that_leaves_frees_its_process(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    assert predict(rest, shapes[0], jpeg(48, 64)).status_code == 200
    with pytest.raises(httpx2.ReadTimeout):
        rest.post(
            f"/v1/models/{shapes[0].name}/predict?version=1",
            files={"image": ("image.jpg", slow_jpeg(7000, 500))},
            timeout=httpx2.Timeout(30, read=2),
        )

    def is_idle() -> bool:
        before = [process.cpu_times().user for process in processes("service.decoding.process")]
        time.sleep(0.3)
        after = [process.cpu_times().user for process in processes("service.decoding.process")]
        return before == after

    wait_until(is_idle, "the end of the decoding", timeout_s=5)


def test_memory_of_large_images_is_returned(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((7000, 7000)).save(file, "JPEG", quality=60)
    assert predict(rest, shapes[0], jpeg(48, 64)).status_code == 200
    (predictor,) = processes("service.predictor.process")
    before = predictor.memory_info().rss
    for _ in range(4):
        assert predict(rest, shapes[0], file.getvalue()).status_code == 200
    after = predictor.memory_info().rss
    print(f"resident memory of the predictor: {before >> 20} MiB, after four images of 49 megapixels {after >> 20} MiB")
    assert after - before < 300 << 20
    assert sum(process.memory_info().rss for process in processes("service.decoding.process")) < 300 << 20
