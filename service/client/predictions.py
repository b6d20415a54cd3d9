"""Calls that predict images: some at once with an answer for each, or many as a job."""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.base.errors import ConfigError, FieldProblem
from service.client.archives import UPLOAD_READ_S, Progress, opened_archive, sent_archive
from service.client.client import Client
from service.client.errors import ServiceError
from service.client.image_files import error_of_image, is_about_all_images, read_image
from service.client.responses import read_answer
from service.rest.schemas import Capabilities, JobView

Answer = dict[str, Any] | ConfigError
"""The prediction for an image, or the reason why there is none."""


def predict_images(
    client: Client, model: str, params: Mapping[str, Any], images: Sequence[Path]
) -> Iterator[tuple[Path, Answer]]:
    """Yield each image file with its prediction, in order; a request has as many images as the service takes.

    Args:
        client: of the service.
        model: its name.
        params: parameters of the predict request: `alias` or `version`, `threshold`, `classes`.
        images: files; one that cannot be read does not affect the others.

    Raises:
        ThresholdUnusable, ClassUnknown: the model lacks what `params` name.
        ServiceError: the service does not answer, or refuses the requests.
    """
    server = read_answer(Capabilities, client.call("GET", "/v1/capabilities"))
    for group in _groups(images, server):
        yield from _predict_group(client, model, params, group)


def _groups(images: Sequence[Path], limits: Capabilities) -> Iterator[list[Path]]:
    """Yield groups of files that fit into one request; files that are too large are alone, to get their own error."""
    group: list[Path] = []
    num_bytes = 0
    for path in images:
        size = _size(path)
        is_alone = size > limits.max_image_bytes
        is_full = len(group) == limits.max_images or num_bytes + size > limits.max_images_bytes
        if group and (is_alone or is_full):
            yield group
            group, num_bytes = [], 0
        if is_alone:
            yield [path]
            continue
        group.append(path)
        num_bytes += size
    if group:
        yield group


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the error is reported when the file is read


def _predict_group(
    client: Client, model: str, params: Mapping[str, Any], group: Sequence[Path]
) -> Iterator[tuple[Path, Answer]]:
    contents: dict[Path, bytes | ConfigError] = {path: _content(path) for path in group}
    sent = {path: content for path, content in contents.items() if isinstance(content, bytes)}
    answers = dict(zip(sent, _answers(client, model, params, sent), strict=True)) if sent else {}
    for path, content in contents.items():
        yield path, answers[path] if isinstance(content, bytes) else content


def _content(path: Path) -> bytes | ConfigError:
    try:
        return read_image(path)
    except ConfigError as error:
        return error


def _answers(client: Client, model: str, params: Mapping[str, Any], images: Mapping[Path, bytes]) -> list[Answer]:
    try:
        response = client.post_images(model, params, list(images.values()))
    except ConfigError as error:
        first = error_of_image(next(iter(images)), error)
        if is_about_all_images(first):
            raise first from error
        if len(images) == 1:
            return [first]
        # A limit was lowered, or a file has grown meanwhile: each image gets an answer of its own.
        alone = [_answers(client, model, params, {path: content}) for path, content in images.items()]
        return [answer for (answer,) in alone]
    found = response.json()
    if len(images) == 1:
        return [found]
    entries = found.get("predictions")
    if not isinstance(entries, list) or len(entries) != len(images):
        raise ServiceError(f"{response.url} did not return {len(images)} predictions; is it a Pyramidion service?")
    return [_answer(path, entry) for path, entry in zip(images, entries, strict=True)]


def _answer(path: Path, entry: dict[str, Any]) -> Answer:
    problem = entry.get("problem")
    if problem is None:
        return entry
    messages = [error["detail"] for error in problem.get("errors", ())] or [str(problem.get("detail"))]
    return error_of_image(path, ConfigError([FieldProblem("image", message) for message in messages]))


def batch_predict_images(
    client: Client, model: str, archive: Path, options: Mapping[str, Any], progress: Progress
) -> JobView:
    """Submit a batch prediction of the images in an archive, which is uploaded.

    Args:
        client: of the service.
        model: its name.
        archive: a zip, tar or tar.gz file.
        options: see `BatchPredictionRequest`.
        progress: is called while the archive is sent.

    Raises:
        ConfigError: the archive cannot be read, or the service refuses the archive or the options.
    """
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    path = f"/v1/models/{quote(model, safe='')}/batch-predictions"
    with opened_archive(archive) as file:
        fields = {"options": json.dumps(dict(options)), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        form: dict[str, Any] = {"data": fields, "files": sent_archive(file, progress)}
        answer = client.call("POST", path, headers=headers, timeout_s=UPLOAD_READ_S, **form)
    return read_answer(JobView, answer)
