"""The predictor's HTTP interface, used by the API process only: `POST /predict` with the image as the body.

The query names the model by `name` and either `alias` or `version`, and what computes it by `runtime`; `threshold` and
`classes` (a JSON list) select predictions, and `draw` requests a picture. The API process forwards the responses,
problems included, to its client. `GET /models` with the same names answers 204 if the model exists; `GET /healthz`
answers 200 while the models work.
"""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, cast

import numpy as np
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.base.errors import ConfigError, DataError, ModelFilesUnavailable, RegistryError
from pipelines.base.pictures import MIN_SHOWN_SCORE
from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.data.decoding.opening import TooManyPixels, UnknownFormat
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Answer, Predictor
from pipelines.tasks.thresholds import ClassUnknown, Threshold, ThresholdUnusable, read_threshold
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.registry import Registry
from service.decoding.pool import DecodingPool
from service.decoding.worker import DecodingLimits, WorkerKilled
from service.predictor.access import SecretRequired
from service.predictor.batching import Batcher
from service.predictor.loading import PredictorLoader, RuntimeUnusable
from service.predictor.model_cache import ModelCache, ModelNotFound, ModelReference
from service.predictor_address import HEALTH_PATH
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.model_schemas import IMAGE_POINTER, RUNTIME_HEADER, VERSION_HEADER, WARNINGS_HEADER
from service.rest.problems import problem_response
from service.rest.schemas import ProblemField
from service.settings import Settings

_NUM_LOADERS = 4

logger = logging.getLogger(__name__)

T = TypeVar("T")


class PredictionService:
    """The models, the processes that decode images, and the threads that resize them and run the models."""

    def __init__(self, settings: Settings, num_cpus: int) -> None:
        self._max_pixels = settings.max_image_pixels
        # Nobody waits any more for a batch that takes this long.
        self._max_batch_s = 2 * settings.predict_timeout_s
        self._loaders = ThreadPoolExecutor(_NUM_LOADERS, "load")
        limits = DecodingLimits(settings.decode_timeout_s, settings.decode_memory_bytes)
        self._decoding = DecodingPool(limits, num_cpus, settings.decode_slow_images)
        self._resizers = ThreadPoolExecutor(num_cpus, "resize", initializer=partial(_use_threads, 1))
        self.batcher = Batcher(partial(_use_threads, num_cpus))
        registry, capacity = Registry(find_store(settings.root)), settings.predict_models
        files = ModelFiles(settings.root / "models", capacity)
        loader = PredictorLoader(registry, files, num_cpus, settings.predict_batch_size)
        self._cache = ModelCache(registry, loader, capacity, settings.alias_check_s)
        self.default_runtime = settings.predict_runtime

    async def answer(
        self,
        reference: ModelReference,
        image: bytes,
        threshold: Threshold | None,
        classes: Sequence[str] | None,
        *,
        is_drawn: bool,
    ) -> Response:
        """Return the prediction as JSON, or drawn on the image as PNG: with a threshold, what has a score above it;
        with classes, only those."""
        while (loaded := self._cache.acquire(reference)) is None:
            await _in(self._loaders, self._cache.fetch, reference)
        try:
            predictor = loaded.predictor
            thresholds = predictor.row_thresholds(threshold, classes)
            pixels, warnings = await self._decoding.decode(image, predictor.reader, self._max_pixels)
            sample = await _in(self._resizers, predictor.resize, pixels, warnings)
            drawn_on = pixels if is_drawn else None
            del pixels  # of a large image, before it waits for its batch
            answer = await asyncio.wrap_future(self.batcher.submit(predictor, sample))
            if thresholds is not None:
                answer = predictor.select(answer, thresholds)
            headers = {VERSION_HEADER: str(loaded.version.version), RUNTIME_HEADER: loaded.runtime}
            if drawn_on is not None:
                min_score = MIN_SHOWN_SCORE if threshold is None else 0.0
                picture = await _in(self._resizers, _picture, predictor, drawn_on, answer, min_score)
                headers |= {WARNINGS_HEADER: json.dumps(warnings)} if warnings else {}
                return Response(picture, 200, headers, "image/png")
            return Response(json.dumps(answer, allow_nan=False), 200, headers, "application/json")
        finally:
            self._cache.release(loaded)

    async def find(self, reference: ModelReference) -> None:
        """Check that the registry has a model; raises the errors of `ModelCache.resolve`."""
        if not self._cache.is_resolved(reference):
            await _in(self._loaders, self._cache.resolve, reference)

    def problem(self) -> str | None:
        """Return why this process has to be replaced, or None if it works."""
        busy_s = self.batcher.busy_s
        if busy_s > self._max_batch_s:
            return f"the batch in progress has taken {busy_s:.0f} s; the network hangs"
        return None

    async def close(self) -> None:
        """Stop all processes and threads."""
        await self._decoding.close()
        self._cache.close()
        self.batcher.close()
        for threads in (self._loaders, self._resizers):
            threads.shutdown(cancel_futures=True)


def create_app(settings: Settings, num_cpus: int) -> Starlette:
    """Return the application; models run on `num_cpus` threads."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = PredictionService(settings, num_cpus)
        yield
        await app.state.service.close()

    routes = [
        Route("/predict", _predict, methods=["POST"]),
        Route("/models", _find, methods=["GET"]),
        Route(HEALTH_PATH, _report_health, methods=["GET"]),
    ]
    secret = settings.secret_of_predictor
    middleware = [] if secret is None else [Middleware(SecretRequired, secret=secret)]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


async def _report_health(request: Request) -> Response:
    service: PredictionService = request.app.state.service
    problem = service.problem()
    if problem is not None:
        return problem_response(503, "The predictor hangs", problem)
    return Response("ok", media_type="text/plain")


async def _find(request: Request) -> Response:
    reference = _reference(request)
    service: PredictionService = request.app.state.service
    try:
        await service.find(reference)
    except Exception as error:
        return _problem_of(error, reference)
    return Response(status_code=204)


def _reference(request: Request) -> ModelReference:
    query = request.query_params
    service: PredictionService = request.app.state.service
    runtime = cast(RuntimeChoice, query.get("runtime", service.default_runtime))  # the API process has checked it
    return ModelReference(query["name"], int(query["version"]) if "version" in query else query["alias"], runtime)


async def _predict(request: Request) -> Response:
    query, reference = request.query_params, _reference(request)
    threshold = read_threshold(query["threshold"]) if "threshold" in query else None
    classes = json.loads(query["classes"]) if "classes" in query else None
    image = await request.body()
    service: PredictionService = request.app.state.service
    work = service.answer(reference, image, threshold, classes, is_drawn="draw" in query)
    try:
        return await unless_gone(request, work)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:
        return _problem_of(error, reference)


def _problem_of(error: Exception, reference: ModelReference) -> Response:
    """Return the problem response for an error."""
    if isinstance(error, ModelNotFound):
        return problem_response(404, "Model not found", str(error))
    if isinstance(error, RegistryError):
        return problem_response(503, "The model registry does not answer", str(error), headers={"Retry-After": "5"})
    if isinstance(error, ModelFilesUnavailable):
        return problem_response(410, "The files of the model are missing", str(error))
    if isinstance(error, WorkerKilled):
        detail = "the process that decoded the image was killed; send the request again"
        errors = [ProblemField(pointer=IMAGE_POINTER, detail=detail)]
        return problem_response(503, "The image was not decoded", detail, errors, {"Retry-After": "1"})
    if isinstance(error, DataError):
        message = error.problems[0].message
        statuses: Mapping[type[DataError], tuple[int, str]] = {
            TooManyPixels: (413, "Image too large"),
            UnknownFormat: (415, "Not an image"),
        }
        status, title = statuses.get(type(error), (422, "The image cannot be read"))
        errors = [ProblemField(pointer=IMAGE_POINTER, detail=message)]
        return problem_response(status, title, f"the image {message}", errors)
    if isinstance(error, ThresholdUnusable):
        message = error.problems[0].message
        field = ProblemField(pointer="/threshold", detail=message)
        return problem_response(422, "The threshold cannot be used", f"{reference}: {message}", [field])
    if isinstance(error, ClassUnknown):
        errors = [ProblemField(pointer="/classes", detail=problem.message) for problem in error.problems]
        return problem_response(422, "The classes cannot be used", f"{reference}: {errors[0].detail}", errors)
    if isinstance(error, RuntimeUnusable):
        field = ProblemField(pointer="/runtime", detail=str(error))
        return problem_response(422, "The runtime cannot be used", str(error), [field])
    if isinstance(error, ConfigError):
        logger.error("%s cannot be loaded: %s", reference, error)
        detail = f"{reference} is registered but cannot be loaded; see the server log"
        return problem_response(500, "The model cannot be loaded", detail)
    logger.error("a prediction of %s failed", reference, exc_info=error)
    return problem_response(500, "Internal error", "the prediction failed; see the server log")


def _picture(predictor: Predictor, pixels: np.ndarray, answer: Answer, min_score: float) -> bytes:
    image = Image.fromarray(pixels)
    picture = draw_answer(image, answer, predictor.job.model, predictor.categories, min_score=min_score)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _use_threads(number: int) -> None:
    """Let torch run operations of the calling thread on `number` threads."""
    # On its first query a thread inherits the number that was set last in any thread, so it queries before it sets.
    torch.get_num_threads()
    torch.set_num_threads(number)


async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
