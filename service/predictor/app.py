"""The predictor's own HTTP interface, for the API process alone: `POST /predict`, with the image as the body.

The query names the model, `name` and either `alias` or `version`, and with `draw` asks for a picture. Answers, problems
too, are what the API process hands on to its client.
"""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.data.dataset.images import TooManyPixels, UnknownFormat
from pipelines.errors import ConfigError, DataError, RegistryError
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Answer, Predictor
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.registry import Registry
from service.predictor.batching import Batcher
from service.predictor.model_files import ModelFiles
from service.predictor.shelf import Loaded, NoSuchModel, Shelf, Wish
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.problems import problem_response
from service.rest.schemas import ProblemField
from service.settings import Settings

VERSION_HEADER = "Model-Version"
_NUM_LOADERS = 4

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Desk:
    """All that answers one request after the other: models, threads that decode, the thread that computes."""

    def __init__(self, settings: Settings, num_cpus: int) -> None:
        self._max_pixels = settings.max_image_pixels
        self._loaders = ThreadPoolExecutor(_NUM_LOADERS, "load")
        self._decoders = ThreadPoolExecutor(num_cpus, "decode", initializer=partial(_use_threads, 1))
        self._batcher = Batcher(partial(_use_threads, num_cpus))
        self._shelf = Shelf(
            Registry(find_store(settings.root)),
            ModelFiles(settings.root / "models", settings.predict_models),
            settings.predict_models,
            settings.alias_check_s,
            partial(Predictor.from_exported, batch_size=settings.predict_batch_size),
        )

    async def answer(self, wish: Wish, image: bytes, *, is_drawn: bool) -> Response:
        """Return the answer as JSON, or drawn on the image as PNG."""
        while (loaded := self._shelf.borrow(wish)) is None:
            await _in(self._loaders, self._shelf.fetch, wish)
        try:
            predictor = loaded.predictor
            prepare = partial(predictor.prepare, name="image", max_pixels=self._max_pixels)
            sample = await _in(self._decoders, prepare, image)
            answer = await asyncio.wrap_future(self._batcher.submit(predictor, sample))
            headers = {VERSION_HEADER: str(loaded.version.version)}
            if is_drawn:
                return Response(await _in(self._decoders, _picture, loaded, image, answer), 200, headers, "image/png")
            return Response(json.dumps(answer, allow_nan=False), 200, headers, "application/json")
        finally:
            self._shelf.give_back(loaded)

    def close(self) -> None:
        """End all threads."""
        self._shelf.close()
        self._batcher.close()
        for threads in (self._loaders, self._decoders):
            threads.shutdown(cancel_futures=True)


def create_app(settings: Settings, num_cpus: int) -> Starlette:
    """Return the application; `num_cpus` threads compute."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.desk = Desk(settings, num_cpus)
        yield
        app.state.desk.close()

    return Starlette(routes=[Route("/predict", _predict, methods=["POST"])], lifespan=lifespan)


async def _predict(request: Request) -> Response:
    query = request.query_params
    which = int(query["version"]) if "version" in query else query["alias"]
    wish = Wish(query["name"], which)
    image = await request.body()
    desk: Desk = request.app.state.desk
    try:
        return await unless_gone(request, desk.answer(wish, image, is_drawn="draw" in query))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:
        return _told(error, wish)


def _told(error: Exception, wish: Wish) -> Response:
    """Return the problem that an error is for the client."""
    if isinstance(error, NoSuchModel):
        return problem_response(404, "No such model", str(error))
    if isinstance(error, RegistryError):
        return problem_response(503, "The model registry does not answer", str(error), headers={"Retry-After": "5"})
    if isinstance(error, DataError):
        message = error.problems[0].message
        statuses: Mapping[type[DataError], tuple[int, str]] = {
            TooManyPixels: (413, "Image too large"),
            UnknownFormat: (415, "Not an image"),
        }
        status, title = statuses.get(type(error), (422, "The image cannot be read"))
        return problem_response(status, title, f"the image {message}", [ProblemField(pointer="/image", detail=message)])
    if isinstance(error, ConfigError):
        logger.error("%s cannot be loaded: %s", wish, error)
        detail = f"{wish} is registered, but cannot be loaded; the server's log says why"
        return problem_response(500, "The model cannot be loaded", detail)
    logger.error("a prediction of %s failed", wish, exc_info=error)
    return problem_response(500, "Internal error", "the prediction failed; the server's log says why")


def _picture(loaded: Loaded, image: bytes, answer: Answer) -> bytes:
    predictor = loaded.predictor
    picture = draw_answer(predictor.decode(image), answer, predictor.job.model, predictor.categories)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _use_threads(number: int) -> None:
    """Let torch compute in so many threads when this thread asks it to."""
    # A thread takes the number of whoever set one last when it first asks, so it has to ask before it sets its own.
    torch.get_num_threads()
    torch.set_num_threads(number)


async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
