"""Requests to the predictor, which is a child process of the API or listens at an address. Torch-free."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import Protocol

from pydantic import ValidationError

from service.api.predictor_connection import ConnectionBroken, PredictorAnswer, PredictorConnection
from service.api.predictor_process import OwnPredictor
from service.predictor_address import PredictorAddress
from service.rest.problems import Problem
from service.rest.schemas import ProblemDetails
from service.settings import Settings

_KNOWN_FOR_S = 60.0
"""Time for which a model that was found is not looked up again before an upload."""
_MAX_KNOWN = 10_000

logger = logging.getLogger(__name__)


class _Predictor(Protocol):
    def in_use(self) -> AbstractContextManager[PredictorConnection]:
        """Yield the connections to it."""
        ...

    def explain(self, connection: PredictorConnection, error: Exception) -> str:
        """Return the reason for a broken connection."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class RemotePredictor:
    """A predictor that others start and stop, at an address."""

    def __init__(self, address: PredictorAddress, settings: Settings) -> None:
        self._address = address
        self._connection = PredictorConnection(address, settings.secret_of_predictor)

    @contextmanager
    def in_use(self) -> Iterator[PredictorConnection]:
        """Yield the connections to it."""
        yield self._connection

    def explain(self, connection: PredictorConnection, error: Exception) -> str:
        """Return the reason for a broken connection."""
        logger.warning("the connection to the predictor at %s broke: %r", self._address, error)
        return f"the predictor at {self._address} is not reachable or has closed the connection"

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()


class PredictorLink:
    """Sends images to the predictor and returns its responses. Use it only in the event loop of the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        address = settings.address_of_predictor
        self._predictor: _Predictor = OwnPredictor(settings) if address is None else RemotePredictor(address, settings)
        self._num_admitted = 0
        self._known_until: dict[frozenset[tuple[str, str]], float] = {}

    @property
    def num_admitted(self) -> int:
        """The number of predictions in progress."""
        return self._num_admitted

    @contextmanager
    def admitted(self, num_images: int = 1) -> Iterator[None]:
        """Occupy a place in the queue for each image while a request is processed.

        Raises:
            Problem: 503 if the queue is full.
        """
        # A request that has more images than the queue has places is admitted when the queue is empty.
        if self._num_admitted and self._num_admitted + num_images > self._settings.predict_queue_size:
            raise _unavailable(
                "Too many predictions",
                f"{self._num_admitted} predictions are in progress, which is the limit; send the request again later",
            )
        self._num_admitted += num_images
        try:
            yield
        finally:
            self._num_admitted -= num_images

    async def find(self, model: Mapping[str, str]) -> None:
        """Check that a model exists, before its images are uploaded; one that was found recently is not looked up.

        Args:
            model: `name`, `alias` or `version`, and `runtime` if it was chosen: the predictor knows models in runtimes.

        Raises:
            Problem: 404 if it does not exist; 503 if the predictor or the registry does not answer.
        """
        key, now = frozenset(model.items()), time.monotonic()
        if self._known_until.get(key, now) > now:
            return
        response = await self._send("GET", "/models", model, b"")
        if response.is_success:
            if len(self._known_until) >= _MAX_KNOWN:
                self._known_until.clear()
            self._known_until[key] = now + _KNOWN_FOR_S
            return
        raise _problem_in(response)

    async def predict(self, query: Mapping[str, str], image: bytes) -> PredictorAnswer:
        """Return the complete response of the predictor; the first call waits for it to start.

        Args:
            query: the model and the form of the response, see `service.predictor.app`.
            image: content of the image file.

        Raises:
            Problem: 503 if the predictor has died or did not respond in time.
        """
        return await self._send("POST", "/predict", query, image)

    async def explain(self, query: Mapping[str, str], images: Sequence[bytes]) -> PredictorAnswer:
        """Return the complete response of the predictor about one image, or about an image and a reference.

        Args:
            query: the model, the prediction and the form of the response, see `service.predictor.app`.
            images: content of the image files.

        Raises:
            Problem: 503 as for `predict`.
        """
        return await self._send("POST", "/explain", {**query, "image_bytes": str(len(images[0]))}, b"".join(images))

    async def close(self) -> None:
        """Close the connections, and stop the predictor if it is a child process."""
        await self._predictor.close()

    async def _send(self, method: str, path: str, query: Mapping[str, str], content: bytes) -> PredictorAnswer:
        timeout_s = self._settings.predict_timeout_s
        with self._predictor.in_use() as connection:
            try:
                response = await connection.send(method, path, query, content, timeout_s)
            except TimeoutError:
                detail = f"the predictor did not respond within {timeout_s:g} s; send the request again"
                raise _unavailable("The predictor took too long", detail) from None
            except ConnectionBroken as error:
                reason = self._predictor.explain(connection, error)
                raise _unavailable("The predictor has exited", f"{reason}; send the request again") from None
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            logger.error("the predictor refuses the secret; give PYRAMIDION_PREDICTOR_SECRET the same value in both")
            detail = "the predictor refuses the secret of this server; see the server log"
            raise _unavailable("The predictor cannot be used", detail)
        return response


def _problem_in(response: PredictorAnswer) -> Problem:
    """Return the predictor's problem for a request whose body stays unread, so that its connection must be closed."""
    kept = {key: response.headers[key] for key in ("retry-after",) if key in response.headers}
    try:
        found = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        logger.error("the predictor answered %s %s", response.status_code, response.text[:200])
        return _unavailable("The predictor cannot be used", "it is not a predictor of this version; see the server log")
    return Problem(response.status_code, found.title, found.detail, headers={**kept, "Connection": "close"})


def _unavailable(title: str, detail: str) -> Problem:
    return Problem(503, title, detail, headers={"Retry-After": "1"})
