"""Writes `names.json`: the networks in timm and torchvision with the licenses of their weights, for torch-free modules.

Run `python -m backbones.measured.names` after updating either library.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torchvision
from torchvision import models

from backbones.catalog.lookup import NAMES_PATH, UNKNOWN, TagsByLicense
from backbones.weights_sources.defaults import HUB_OWNER

_LICENSES_OF_TORCHVISION = {
    None: "bsd-3-clause",
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0",
}
"""Maps the entry in the weights' metadata to a license; weights without an entry have torchvision's license."""


def installed_networks() -> dict[str, Any]:
    """Return version, networks and places of files by library, in the format of `names.json`.

    Each network has the tags of its weights by license; the first tag of the first license is that of the default
    weights. For torchvision only the default weights are listed.
    """
    return {
        "timm": {
            "version": timm.__version__,
            "networks": {name: _timm_weights(name) for name in timm.list_models()},
            "files": {name: place for name in timm.list_pretrained() if (place := _timm_place(name)) is not None},
        },
        "tv": {
            "version": torchvision.__version__.partition("+")[0],
            "networks": {name: _torchvision_weights(name) for name in models.list_models(module=models)},
            "files": {name: models.get_model_weights(name).DEFAULT.url for name in models.list_models(module=models)},
        },
    }


def _timm_weights(name: str) -> TagsByLicense:
    default = timm.get_pretrained_cfg(name)
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{name}.*")]
    if default is not None and default.tag in tags:
        tags.remove(default.tag)
        tags.insert(0, default.tag)
    weights: TagsByLicense = {}
    for tag in tags:
        settings = timm.get_pretrained_cfg(f"{name}.{tag}")
        weights.setdefault((settings and settings.license) or UNKNOWN, []).append(tag)
    return weights


def _timm_place(name: str) -> str | None:
    """Return the repository or the URL of weights; None if the repository is timm's own one of this name."""
    settings = timm.get_pretrained_cfg(name)
    assert settings is not None
    if settings.hf_hub_filename:
        raise ValueError(f"{name}: its file in the Hub has an unusual name; record it in names.json too")
    place = settings.hf_hub_id or str(settings.url)
    return None if place == f"{HUB_OWNER}/{name}" else place


def _torchvision_weights(name: str) -> TagsByLicense:
    default = models.get_model_weights(name).DEFAULT
    return {_LICENSES_OF_TORCHVISION.get(default.meta.get("license"), UNKNOWN): [default.name]}


def write_names(path: Path) -> None:
    """Write the networks of the installed libraries to `path`, one line per network."""
    libraries = []
    for library, installed in installed_networks().items():
        tables = ", ".join(f"{json.dumps(part)}: {_by_line(installed[part])}" for part in ("networks", "files"))
        libraries.append(f'{json.dumps(library)}: {{"version": {json.dumps(installed["version"])}, {tables}}}')
    path.write_text("{\n" + ",\n".join(libraries) + "\n}\n", encoding="utf-8")


def _by_line(table: Mapping[str, Any]) -> str:
    lines = (f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}" for name, value in table.items())
    return "{\n" + ",\n".join(lines) + "\n}"


if __name__ == "__main__":
    write_names(NAMES_PATH)
