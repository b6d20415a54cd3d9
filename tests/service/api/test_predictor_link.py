"""The predictor process as the API process starts, replaces and stops it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.tracking.model_versions import ModelVersion
from service.api.predictor_link import PredictorLink
from service.child_process import child_environment
from service.rest.problems import Problem
from service.settings import Settings
from tests.service.conftest import jpeg
from tests.service.waiting import wait_until


def predictors(parent: int) -> list[psutil.Process]:
    """Return the running predictor processes that a process has started."""
    found = []
    for child in psutil.Process(parent).children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE and "service.predictor.process" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


def run_with_link(settings: Settings, work: Callable[[PredictorLink], Coroutine[Any, Any, None]]) -> None:
    """Run `work` in an event loop with a link, and close the link."""

    async def run() -> None:
        link = PredictorLink(settings)
        try:
            await work(link)
        finally:
            await link.close()

    asyncio.run(run())


@pytest.fixture
def settings(mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    url = "postgresql://user:secret@127.0.0.1/never_opened"
    return Settings(root=mlflow_runs_root, predict_queue_size=2, predict_timeout_s=120, database_url=url)


@pytest.mark.integration
def test_requests_share_one_process_that_is_replaced_when_it_hangs_and_exits_when_idle(
    settings: Settings, shapes: list[ModelVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    query, image = {"name": shapes[0].name, "version": "1"}, jpeg(48, 64)

    async def ask_stop_and_ask_again(link: PredictorLink) -> None:
        asked = [asyncio.create_task(link.predict(query, image)) for _ in range(3)]
        await asyncio.sleep(0)
        (first,) = predictors(os.getpid())
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 3
        assert [name for name, text in first.environ().items() if "secret" in text] == []
        assert list(tmp_path.iterdir()) == [], "a kill of this process would leave nothing behind"

        first.suspend()
        in_progress = [asyncio.create_task(link.predict(query, image)) for _ in range(2)]
        for outcome in await asyncio.gather(*in_progress, return_exceptions=True):
            assert isinstance(outcome, Problem)
            assert (outcome.status_code, outcome.headers) == (503, {"Retry-After": "1"})

        assert (await link.predict(query, image)).status_code == 200
        (second,) = predictors(os.getpid())
        assert second.pid != first.pid
        await asyncio.to_thread(wait_until, lambda: predictors(os.getpid()) == [], "the idle process exits")

    checks = {"predictor_check_s": 0.5, "predictor_check_timeout_s": 10.0}
    run_with_link(settings.model_copy(update={"predict_idle_s": 5.0, **checks}), ask_stop_and_ask_again)
    assert predictors(os.getpid()) == []


def test_prediction_beyond_its_time_limit_is_503(settings: Settings) -> None:
    async def ask(link: PredictorLink) -> None:
        with pytest.raises(Problem) as raised:
            await link.predict({"name": "any", "version": "1"}, b"")
        assert raised.value.status_code == 503
        assert "within 0.05 s" in raised.value.detail

    run_with_link(settings.model_copy(update={"predict_timeout_s": 0.05}), ask)


def test_full_queue_is_503(settings: Settings) -> None:
    link = PredictorLink(settings)
    with link.admitted(), link.admitted():
        with pytest.raises(Problem) as raised, link.admitted():
            pytest.fail("the queue has two places")
        assert (raised.value.status_code, raised.value.headers) == (503, {"Retry-After": "1"})
    with link.admitted(), pytest.raises(Problem), link.admitted(2):
        pytest.fail("the queue has one place left")
    with link.admitted(99):
        pass


PARENT = """
import asyncio, sys
from pathlib import Path
from service.api.predictor_link import PredictorLink
from service.settings import Settings

async def ask():
    asking = asyncio.create_task(PredictorLink(Settings()).predict({"name": "any", "version": "1"}, b""))
    await asyncio.sleep(0)
    print("started", flush=True)
    await asking

asyncio.run(ask())
"""


def test_predictor_exits_with_its_parent(settings: Settings) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=child_environment({**os.environ, **settings.environment()}),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    (predictor,) = predictors(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not predictor.is_running() or predictor.status() == psutil.STATUS_ZOMBIE, "the predictor's end")
