"""The answer to a request with several images: one entry for each, in order. Torch-free.

An image that cannot be read does not affect the others: its entry is the problem that it alone would be answered with.
Any other problem, such as one about the model, is the answer to the whole request.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.responses import Response

from service.api.predictor_connection import PredictorAnswer
from service.api.predictor_link import PredictorLink
from service.rest.model_schemas import IMAGE_POINTER, RUNTIME_HEADER, VERSION_HEADER, WARNINGS_HEADER

_KEPT = ("Content-Type", "Retry-After", VERSION_HEADER, RUNTIME_HEADER, WARNINGS_HEADER)


def forwarded(answer: PredictorAnswer) -> Response:
    """Return the predictor's answer as the answer to the client."""
    kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
    return Response(answer.content, answer.status_code, kept)


async def predict_images(link: PredictorLink, query: Mapping[str, str], images: Sequence[bytes]) -> Response:
    """Return the answers for all images, predicted by one version of the model.

    Args:
        query: the model, and what is kept of the answers, see `PredictorLink.predict`.

    Raises:
        Problem: the predictor does not answer.
    """
    answers = await _predict(link, query, images)
    versions = {int(answer.headers[VERSION_HEADER]) for answer in answers if VERSION_HEADER in answer.headers}
    if len(versions) > 1:
        # The alias has moved in the meantime.
        pinned = {name: value for name, value in query.items() if name != "alias"} | {"version": str(max(versions))}
        answers = await _predict(link, pinned, images)
    for answer in answers:
        if not answer.is_success and not _is_about_its_image(answer):
            return forwarded(answer)
    entries = [answer.text if answer.is_success else f'{{"problem":{answer.text}}}' for answer in answers]
    predicted = [answer for answer in answers if answer.is_success]
    headers = {name: predicted[-1].headers[name] for name in (VERSION_HEADER, RUNTIME_HEADER)} if predicted else {}
    return Response(f'{{"predictions":[{",".join(entries)}]}}', HTTPStatus.OK, headers, "application/json")


async def _predict(link: PredictorLink, query: Mapping[str, str], images: Sequence[bytes]) -> list[PredictorAnswer]:
    tasks = [asyncio.ensure_future(link.predict(query, image)) for image in images]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _is_about_its_image(answer: PredictorAnswer) -> bool:
    return any(error.get("pointer") == IMAGE_POINTER for error in json.loads(answer.content).get("errors", []))
