"""The predictor's HTTP interface, used by the API process only: `POST /predict` with the image as the body.

The query names the model by `name` and either `alias` or `version`, and what computes it by `runtime`; `threshold` and
`classes` (a JSON list) select predictions, and `draw` requests a picture. `POST /explain` takes the same model and
`draw`, an `ExplanationRequest` as `request`, and one or two images, of which the first has `image_bytes`. The API
process forwards the responses, problems included, to its client. `GET /models` with the same names answers 204 if the
model exists; `GET /healthz` answers 200 while the models work.
"""

import json
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.base.errors import ConfigError, DataError, ModelFilesUnavailable, RegistryError
from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.data.decoding.opening import TooManyPixels, UnknownFormat
from pipelines.explanations.chosen_row import ExplanationUnusable
from pipelines.spec.explanation import ExplanationRequest
from pipelines.tasks.thresholds import ClassUnknown, ThresholdUnusable, read_threshold
from service.decoding.worker import WorkerKilled
from service.predictor.access import SecretRequired
from service.predictor.loading import RuntimeUnusable
from service.predictor.model_cache import ModelNotFound, ModelReference
from service.predictor.prediction_service import PredictionService
from service.predictor_address import HEALTH_PATH
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.model_schemas import IMAGE_POINTER
from service.rest.problems import problem_response
from service.rest.schemas import ProblemField
from service.settings import Settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings, num_cpus: int) -> Starlette:
    """Return the application; models run on `num_cpus` threads."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = PredictionService(settings, num_cpus)
        yield
        await app.state.service.close()

    routes = [
        Route("/predict", _predict, methods=["POST"]),
        Route("/explain", _explain, methods=["POST"]),
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
    return await _answered(request, reference, work)


async def _explain(request: Request) -> Response:
    query, reference = request.query_params, _reference(request)
    wanted = ExplanationRequest.model_validate_json(query["request"])  # the API process has checked it
    content = await request.body()
    end = int(query["image_bytes"])
    service: PredictionService = request.app.state.service
    other = content[end:] if len(content) > end else None
    work = service.explain(reference, content[:end], other, wanted, is_drawn="draw" in query)
    return await _answered(request, reference, work)


async def _answered(request: Request, reference: ModelReference, work: Coroutine[Any, Any, Response]) -> Response:
    """Return the response that `work` computes, or a problem; stop it if the client disconnects."""
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
    if isinstance(error, ExplanationUnusable):
        errors = [ProblemField(pointer=f"/{problem.field}", detail=problem.message) for problem in error.problems]
        return problem_response(422, "The prediction cannot be explained", errors[0].detail, errors)
    if isinstance(error, RuntimeUnusable):
        field = ProblemField(pointer="/runtime", detail=str(error))
        return problem_response(422, "The runtime cannot be used", str(error), [field])
    if isinstance(error, ConfigError):
        logger.error("%s cannot be loaded: %s", reference, error)
        detail = f"{reference} is registered but cannot be loaded; see the server log"
        return problem_response(500, "The model cannot be loaded", detail)
    logger.error("a prediction of %s failed", reference, exc_info=error)
    return problem_response(500, "Internal error", "the prediction failed; see the server log")
