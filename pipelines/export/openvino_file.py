"""The graph of a model as files of OpenVINO."""

import re
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.files import require_space
from pipelines.runtimes.openvino import import_openvino

_MISSING = re.compile(r"No conversion rule found for operations: (.+)")


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Write a graph for OpenVINO: `path`, which ends with .xml, and its weights in float32 beside it, in .bin.

    Raises:
        ConfigError: OpenVINO cannot compute the graph.
        OSError: the disk is full.
    """
    openvino = import_openvino()
    try:
        graph = openvino.Core().read_model(onnx_file)
    except RuntimeError as error:
        missing = _MISSING.search(str(error))
        reason = f"lacks operations of this network: {missing[1]}" if missing else f"cannot read the graph: {error}"
        raise ConfigError(FieldProblem("--to", f"got openvino, which {reason}; write --to onnx")) from error
    save_openvino(graph, path, onnx_file.stat().st_size)


def save_openvino(graph: Any, path: Path, num_bytes: int) -> None:
    """Write a graph that OpenVINO has read, see `write_openvino`.

    Args:
        graph: `openvino.Model`.
        path: of the new .xml file.
        num_bytes: size of the files, about.

    Raises:
        OSError: the disk is full.
    """
    try:
        import_openvino().save_model(graph, path, compress_to_fp16=False)
    except RuntimeError:  # "iostream error", whatever the reason is
        require_space(path.parent, num_bytes)
        raise
