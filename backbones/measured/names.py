"""Writes `names.json`: every network that timm and torchvision know, for modules that must not import them.

Run `python -m backbones.measured.names` after either library was updated.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torchvision

NAMES_PATH = Path(__file__).parents[1] / "catalog" / "names.json"


def installed_names() -> dict[str, Any]:
    """Return version and names by library, as `names.json` holds them."""
    return {
        "timm": {"version": timm.__version__, "names": sorted(timm.list_models())},
        "tv": {
            "version": torchvision.__version__.partition("+")[0],
            "names": sorted(torchvision.models.list_models(module=torchvision.models)),
        },
    }


def write_names(path: Path) -> None:
    """Write the installed libraries' names to `path`, a line a library."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in installed_names().items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_names(NAMES_PATH)
