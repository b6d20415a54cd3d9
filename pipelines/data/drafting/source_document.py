"""A short document that reads a data set as given sources. The API uses it, so it imports nothing that reads images."""

from collections.abc import Mapping
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.formats.catalog import FORMATS, name_of
from pipelines.spec.load import Document, validate_document

SOURCE = "images"
"""Name of the source of data that is recognized."""


def complete_sources(sources: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the sources of a short document if they name files; empty if they only have settings of `SOURCE`.

    Raises:
        ConfigError: another source has settings, and none names files.
    """
    if any(isinstance(source, Mapping) and {"images", "labels"} & set(source) for source in sources.values()):
        return sources
    if others := sorted(set(sources) - {SOURCE}):
        problem = f"got {others[0]!r} without images and labels; the data that is recognized is the source {SOURCE!r}"
        raise ConfigError(FieldProblem("data.sources", problem))
    return {}


def document_of_sources(sources: Mapping[str, Any]) -> Document:
    """Return a short document with the section `data.sources`; raises ConfigError if the section is invalid."""
    tasks: dict[str, Any] = {}
    for source in sources.values():
        layers = source.get("labels") if isinstance(source, dict) else None
        for layer in layers if isinstance(layers, list) else []:
            if isinstance(layer, dict) and isinstance(layer.get("tasks"), list):
                tasks |= {
                    name: {"head": _head(layer.get("format"))} for name in layer["tasks"] if isinstance(name, str)
                }
    backbone = {"name": "resnet18", "weights": "none"}
    document = {
        "name": "draft",
        "model": {"backbone": backbone, "tasks": tasks or {"objects": {"head": "fcos"}}},
        "data": {"root": ".", "sources": dict(sources)},
    }
    validate_document(document)
    return document


def _head(format_name: Any) -> str:
    gives = next((layer.GIVES for layer in FORMATS if name_of(layer) == format_name), frozenset({"boxes"}))
    return "fcos" if "boxes" in gives else "multilabel"
