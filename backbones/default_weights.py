"""A quick check that a library's default weights are cached or can be downloaded."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from torchvision import models

from backbones.catalog.licenses import RANDOM_OR_FILE, lack_of_weights
from backbones.catalog.row import BackboneRow

_TIMEOUT_S = 5.0
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def default_weights_problem(row: BackboneRow) -> str | None:
    """Return a message that the default weights of `row` are not available, with a remedy; None if they are.

    Weights are available if they are in the library's cache, or if their server answers a short request.
    """
    if lack := lack_of_weights(row):
        return f"weights: {lack}"
    cached, url = _torchvision_place(row) if row.source == "tv" else _timm_place(row)
    if cached:
        return None
    if url is None:
        return f"weights: backbone {row.name!r} has no default weights; {RANDOM_OR_FILE}"
    reason = unreachable_reason(url)
    if reason is None:
        return None
    host = urlparse(url).netloc
    return (
        f"weights: the default weights of backbone {row.name!r} are not cached, and {host} cannot be reached "
        f"({reason}); {RANDOM_OR_FILE}"
    )


def _torchvision_place(row: BackboneRow) -> tuple[bool, str | None]:
    """Return whether the file is cached, and its URL (None if it has none)."""
    weights = models.get_model_weights(row.id).DEFAULT
    return torch_hub_path(weights.url).is_file(), weights.url


def _timm_place(row: BackboneRow) -> tuple[bool, str | None]:
    """Return whether the file is cached, and its URL (None if it has none)."""
    settings = timm.get_pretrained_cfg(row.id)
    if settings is None or not settings.has_weights:
        return False, None
    if not settings.hf_hub_id:
        url = settings.url if isinstance(settings.url, str) else None
        return url is not None and torch_hub_path(url).is_file(), url
    repository, _, revision = settings.hf_hub_id.partition("@")
    files = (settings.hf_hub_filename,) if settings.hf_hub_filename else _HUB_FILES
    cached = any(isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str) for file in files)
    return cached, hf_hub_url(repository, files[0], revision=revision or None)


def torch_hub_path(url: str) -> Path:
    """Return the place of a file in torch's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def unreachable_reason(url: str) -> str | None:
    """Return the reason why a HEAD request for `url` fails; None if it succeeds within `_TIMEOUT_S`.

    The request runs in a thread, because socket timeouts do not end a DNS lookup that hangs.
    """
    if constants.HF_HUB_OFFLINE and url.startswith(constants.ENDPOINT):
        return "HF_HUB_OFFLINE is set"
    answer: list[str | None] = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S):
                answer[0] = None
        except urllib.error.URLError as error:
            answer[0] = str(error.reason)
        except OSError as error:
            answer[0] = str(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_S)
    return answer[0]
