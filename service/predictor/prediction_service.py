"""The work of the predictor: predictions and explanations by models in memory."""

import asyncio
import contextlib
import io
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image
from pydantic_core import to_json
from starlette.responses import Response

from pipelines.base.pictures import FAST_PNG, MIN_SHOWN_SCORE
from pipelines.data.loading.sample import Sample
from pipelines.inference.network import TorchNetwork
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Answer, Predictor
from pipelines.spec.explanation import ExplanationRequest
from pipelines.tasks.thresholds import Threshold
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.registry import Registry
from service.decoding.pool import DecodingPool
from service.decoding.worker import DecodingLimits
from service.predictor.batching import Batcher, BeforePass
from service.predictor.loading import PredictorLoader
from service.predictor.model_cache import LoadedModel, ModelCache, ModelReference
from service.rest.explanation_schemas import ExplanationView
from service.rest.model_schemas import RUNTIME_HEADER, VERSION_HEADER, WARNINGS_HEADER
from service.settings import Settings

if TYPE_CHECKING:
    from pipelines.explanations.explain import Explanation

_NUM_LOADERS = 4
_SHOWN_DIGITS = 5

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
        async with self._model(reference) as loaded:
            predictor = loaded.predictor
            thresholds = predictor.row_thresholds(threshold, classes)
            pixels, warnings, sample = await self._read(predictor, image)
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
            return Response(json_of(answer), 200, headers, "application/json")

    async def explain(
        self,
        reference: ModelReference,
        image: bytes,
        other_image: bytes | None,
        request: ExplanationRequest,
        *,
        is_drawn: bool,
    ) -> Response:
        """Return the explanation of a prediction as JSON, or drawn on the image as PNG; torch computes it in float32.

        Args:
            reference: the model.
            image: content of the image file.
            other_image: that of the image whose embedding is compared.
            request: the prediction, and the method.
            is_drawn: whether to return a picture.

        Raises:
            ExplanationUnusable: the request does not fit the model or the image.
        """
        await _in(self._loaders, _import_explanations)
        async with self._torch_model(reference) as loaded:
            predictor = loaded.predictor
            pixels, warnings, sample = await self._read(predictor, image)
            other = None if other_image is None else (await self._read(predictor, other_image))[2]
            explanation = await self._explained(predictor, sample, request, other)
            headers = {VERSION_HEADER: str(loaded.version.version), RUNTIME_HEADER: "torch"}
            if is_drawn:
                picture = await _in(self._resizers, _explanation_picture, pixels, explanation)
                headers |= {WARNINGS_HEADER: json.dumps(warnings)} if warnings else {}
                return Response(picture, 200, headers, "image/png")
            content = await _in(self._resizers, _explanation_json, explanation, warnings)
            return Response(content, 200, headers, "application/json")

    async def _explained(
        self, predictor: Predictor, sample: Sample, request: ExplanationRequest, other: Sample | None
    ) -> "Explanation":
        from pipelines.explanations.explain import explain

        def compute(before_pass: BeforePass) -> "Explanation":
            return explain(predictor, sample, request, reference=other, before_pass=before_pass)

        abandoned = threading.Event()
        try:
            return await asyncio.wrap_future(self.batcher.submit_long_work(compute, abandoned))
        finally:
            abandoned.set()

    async def _read(self, predictor: Predictor, image: bytes) -> tuple[np.ndarray, list[str], Sample]:
        """Return the pixels of an image, warnings about its file, and the image prepared for the network."""
        pixels, warnings = await self._decoding.decode(image, predictor.reader, self._max_pixels)
        return pixels, list(warnings), await _in(self._resizers, predictor.resize, pixels, warnings)

    @asynccontextmanager
    async def _model(self, reference: ModelReference) -> AsyncIterator[LoadedModel]:
        while (loaded := self._cache.acquire(reference)) is None:
            await _in(self._loaders, self._cache.fetch, reference)
        try:
            yield loaded
        finally:
            self._cache.release(loaded)

    @asynccontextmanager
    async def _torch_model(self, reference: ModelReference) -> AsyncIterator[LoadedModel]:
        """Yield the model that answers predictions if torch computes it, so that it is not in memory twice."""
        async with self._model(reference) as loaded:
            if isinstance(loaded.predictor.network, TorchNetwork):
                yield loaded
                return
        async with self._model(replace(reference, runtime="torch")) as loaded:
            yield loaded

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


def _import_explanations() -> None:
    """Import Captum, which takes a second, before the thread of the predictions needs it."""
    import pipelines.explanations.explain
    import pipelines.explanations.picture  # noqa: F401


def _explanation_picture(pixels: np.ndarray, explanation: "Explanation") -> bytes:
    from pipelines.explanations.picture import draw_explanation

    file = io.BytesIO()
    draw_explanation(Image.fromarray(pixels), explanation).save(file, "PNG", compress_level=FAST_PNG)
    return file.getvalue()


def json_of(answer: Answer) -> bytes:
    """Return an answer as JSON; raises ValueError if a number is not finite.

    The event loop does this for each request, and `json.dumps` takes six times as long.
    """
    with contextlib.suppress(ValueError):  # names with unpaired surrogates, which `json.dumps` escapes
        content = to_json(answer)
        if b"NaN" not in content and b"Infinity" not in content:  # names may contain these words too
            return content
    return json.dumps(answer, allow_nan=False).encode()


def _explanation_json(explanation: "Explanation", warnings: Sequence[str]) -> str:
    largest = float(np.abs(explanation.values).max())
    decimals = _SHOWN_DIGITS - math.floor(math.log10(largest)) if largest else 0
    values = explanation.values.astype(np.float64).round(decimals).tolist()
    view = ExplanationView(**explanation.facts.model_dump(), values=values, warnings=list(warnings))
    return view.model_dump_json()


async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
