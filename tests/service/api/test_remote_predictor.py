"""A predictor that runs by itself, which the API reaches at an address with a secret."""

import asyncio
import stat
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from pipelines.base.errors import ConfigError
from pipelines.tracking.model_versions import ModelVersion
from service.api.predictor_link import PredictorLink
from service.predictor.app import create_app
from service.predictor.process import listen
from service.predictor_address import PredictorAddress, health_problem
from service.rest.problems import Problem
from service.settings import Settings
from tests.service.conftest import jpeg
from tests.service.waiting import wait_until

SECRET = "a secret for tests"


@pytest.fixture(scope="module")
def settings(mlflow_runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an API whose predictor listens at a Unix socket."""
    url = f"unix:{tmp_path_factory.mktemp('sockets') / 'predictor.sock'}"
    return Settings(root=mlflow_runs_root, predictor_url=url, predictor_secret=SecretStr(SECRET), predict_timeout_s=120)


@pytest.fixture(scope="module")
def predictor(settings: Settings) -> Iterator[PredictorAddress]:
    """A predictor with the secret, in a thread of this process."""
    address = settings.address_of_predictor
    assert address is not None
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        listener = listen(address)
        server = uvicorn.Server(uvicorn.Config(create_app(settings, 1), log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the predictor's start")
            yield address
        finally:
            server.should_exit = True
            thread.join()
            listener.close()


def with_link(settings: Settings, work: Any) -> None:
    async def run() -> None:
        link = PredictorLink(settings)
        try:
            await work(link)
        finally:
            await link.close()

    asyncio.run(run())


async def problem_of(work: Coroutine[Any, Any, Any]) -> Problem:
    with pytest.raises(Problem) as raised:
        await work
    return raised.value


def test_images_are_predicted_at_an_address(
    predictor: PredictorAddress, settings: Settings, shapes: list[ModelVersion]
) -> None:
    model = {"name": shapes[0].name, "version": "1"}

    async def ask(link: PredictorLink) -> None:
        await link.find(model)
        answer = await link.predict(model, jpeg(48, 64))
        assert (answer.status_code, answer.headers["model-version"]) == (200, "1")
        missing = await problem_of(link.find({"name": shapes[0].name, "alias": "unknown"}))
        assert (missing.status_code, missing.title) == (404, "Model not found")

    with_link(settings, ask)
    assert predictor.path is not None
    assert stat.S_IMODE(Path(predictor.path).stat().st_mode) == 0o660


@pytest.mark.parametrize("secret", [None, "another secret"])
def test_wrong_secret_is_not_reported_to_clients_as_theirs(
    secret: str | None, predictor: PredictorAddress, settings: Settings, shapes: list[ModelVersion]
) -> None:
    async def ask(link: PredictorLink) -> None:
        for work in (link.find({"name": "any", "version": "1"}), link.predict({"name": "any", "version": "1"}, b"")):
            refused = await problem_of(work)
            assert (refused.status_code, refused.detail.partition(";")[0]) == (
                503,
                "the predictor refuses the secret of this server",
            )

    given = {} if secret is None else {"predictor_secret": secret}
    with_link(Settings(root=settings.root, predictor_url=settings.predictor_url, **given), ask)  # type: ignore[arg-type]


def test_health_needs_no_secret(predictor: PredictorAddress) -> None:
    assert health_problem(predictor, 30) is None


def test_predictor_that_is_not_reachable_is_503(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 'nothing.sock'}"

    async def ask(link: PredictorLink) -> None:
        refused = await problem_of(link.predict({"name": "any", "version": "1"}, b""))
        assert (refused.status_code, refused.headers) == (503, {"Retry-After": "1"})
        assert f"at {url} is not reachable" in refused.detail

    with_link(Settings(root=tmp_path, predictor_url=url), ask)
    assert "does not answer" in str(health_problem(PredictorAddress.parse(url), 1))


def test_predictor_with_a_port_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRAMIDION_PREDICTOR_SECRET", raising=False)
    with pytest.raises(ConfigError, match="PYRAMIDION_PREDICTOR_SECRET: missing"):
        listen(PredictorAddress.parse("http://127.0.0.1:0"))
    monkeypatch.setenv("PYRAMIDION_PREDICTOR_SECRET", SECRET)
    with listen(PredictorAddress.parse("http://127.0.0.1:0")) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_socket_of_an_earlier_predictor_is_replaced_but_no_other_file(tmp_path: Path) -> None:
    address = PredictorAddress.parse(f"unix:{tmp_path / 'predictor.sock'}")
    listen(address).close()
    listen(address).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(PredictorAddress.parse(f"unix:{tmp_path / 'file'}"))


@pytest.mark.parametrize(
    "text",
    ["predictor", "https://host:1", "http://host", "http://:1", "http://h:1/x", "http://u:p@h:1", "http://h:x",
     "http://a..b:1", "unix:relative", "unix:/folder/", "unix:/" + "x" * 120],
)  # fmt: skip
def test_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="got '"):
        PredictorAddress.parse(text)


@pytest.mark.parametrize("text", ["http://10.0.0.1:9", "http://[::1]:9", "unix:/run/predictor.sock"])
def test_address_is_shown_as_it_is_written(text: str) -> None:
    assert str(PredictorAddress.parse(text)) == text


def test_secret_is_not_shown_and_reaches_other_processes() -> None:
    settings = Settings(predictor_secret=SecretStr(SECRET))
    assert SECRET not in repr(settings)
    assert settings.environment()["PYRAMIDION_PREDICTOR_SECRET"] == SECRET
