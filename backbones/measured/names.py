"""Writes `names.json`: the networks in timm and torchvision with the licenses of their weights, for torch-free modules.

Run `python -m backbones.measured.names` after updating either library.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torchvision
from torchvision import models

from backbones.catalog.lookup import NAMES_PATH, UNKNOWN, TagsByLicense

_LICENSES_OF_TORCHVISION = {
    None: "bsd-3-clause",
    "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0",
}
"""Maps the entry in the weights' metadata to a license; weights without an entry have torchvision's license."""


def installed_networks() -> dict[str, Any]:
    """Return version and networks by library, in the format of `names.json`.

    Each network has the tags of its weights by license; the first tag of the first license is that of the default
    weights. For torchvision only the default weights are listed.
    """
    return {
        "timm": {"version": timm.__version__, "networks": {name: _timm_weights(name) for name in timm.list_models()}},
        "tv": {
            "version": torchvision.__version__.partition("+")[0],
            "networks": {name: _torchvision_weights(name) for name in models.list_models(module=models)},
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


def _torchvision_weights(name: str) -> TagsByLicense:
    default = models.get_model_weights(name).DEFAULT
    return {_LICENSES_OF_TORCHVISION.get(default.meta.get("license"), UNKNOWN): [default.name]}


def write_names(path: Path) -> None:
    """Write the networks of the installed libraries to `path`, one line per network."""
    libraries = []
    for library, installed in installed_networks().items():
        lines = ",\n".join(
            f"{json.dumps(name)}:{json.dumps(weights, separators=(',', ':'))}"
            for name, weights in installed["networks"].items()
        )
        version = json.dumps(installed["version"])
        libraries.append(f'{json.dumps(library)}: {{"version": {version}, "networks": {{\n{lines}\n}}}}')
    path.write_text("{\n" + ",\n".join(libraries) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_names(NAMES_PATH)
