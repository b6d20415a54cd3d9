"""Detectors that torchvision publishes with weights trained on COCO: their files and their classes.

Their names are a fixed list, `backbones.catalog.licenses.DETECTOR_LICENSES`: a document cannot name a URL.
"""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torchvision import models

from backbones.default_weights import torch_hub_path, unreachable_reason

COCO = "retinanet_resnet50_fpn"
"""The detector whose weights were trained with norms without epsilon, see `norm_eps`."""
EPS = 1e-5
"""Epsilon of torch's BatchNorm and of torchvision's frozen one."""


def published_url(name: str) -> str:
    """Return the address of a detector's file."""
    url: str = _weights(name).url
    return url


def published_file(name: str) -> Path:
    """Return the place of a detector's file in torch's cache, where it may be missing."""
    return torch_hub_path(published_url(name))


def publication_problem(name: str) -> str | None:
    """Return a message that a detector's file is neither cached nor available, with a remedy; None if it is."""
    file, url = published_file(name), published_url(name)
    if file.is_file() or (reason := unreachable_reason(url)) is None:
        return None
    return (
        f"the weights of {name} are not in {file.parent}, and {urlparse(url).netloc} cannot be reached ({reason}); "
        f"download {url} where there is a network, put the file below a weights root, and write its name instead"
    )


def download_published(name: str) -> Path:
    """Return a detector's file, which is downloaded to torch's cache if it is missing there.

    Raises:
        ValueError: the file is not available; the message says how to get it.
    """
    if problem := publication_problem(name):
        raise ValueError(problem)
    file, url = published_file(name), published_url(name)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=_hash_prefix(url), progress=False)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{url} was not downloaded completely ({error}); start again, or download it elsewhere, put the file "
                "below a weights root, and write its name instead"
            ) from error
    return file


def coco_classes() -> list[str]:
    """Return the names of the 91 outputs of detectors trained on COCO: 80 classes, and placeholders.

    The position is COCO's category id. The placeholders are `__background__` and `N/A`.
    """
    return list(_weights(COCO).meta["categories"])


def norm_eps(file: Path) -> float:
    """Return the epsilon of the frozen norms that a detector's file was trained with.

    torchvision sets it to 0 for its published RetinaNet, which was trained before FrozenBatchNorm2d had an epsilon
    (`torchvision.models.detection._utils.overwrite_eps`). The file is recognized by its hash.
    """
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return 0.0 if digest.startswith(_hash_prefix(published_url(COCO))) else EPS


def _weights(name: str) -> Any:
    return models.get_model_weights(name).DEFAULT


def _hash_prefix(url: str) -> str:
    """Return the start of the file's SHA-256, which is part of its name."""
    return Path(urlparse(url).path).stem.rpartition("-")[2]
