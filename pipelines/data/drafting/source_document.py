"""A short document that reads a data set as given sources. The API uses it, so it imports nothing that reads images."""

from collections.abc import Mapping
from typing import Any

from pipelines.formats.catalog import FORMATS, name_of
from pipelines.spec.load import Document, validate_document


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
