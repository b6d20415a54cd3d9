"""The graph of a model as files of OpenVINO."""

import re
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.runtimes.openvino import import_openvino

_MISSING = re.compile(r"No conversion rule found for operations: (.+)")


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Write a graph for OpenVINO: `path`, which ends with .xml, and its weights in float32 beside it, in .bin.

    Raises:
        ConfigError: OpenVINO cannot compute the graph.
    """
    openvino = import_openvino()
    try:
        graph = openvino.Core().read_model(onnx_file)
    except RuntimeError as error:
        missing = _MISSING.search(str(error))
        reason = f"lacks operations of this network: {missing[1]}" if missing else f"cannot read the graph: {error}"
        raise ConfigError(FieldProblem("--to", f"got openvino, which {reason}; write --to onnx")) from error
    openvino.save_model(graph, path, compress_to_fp16=False)
