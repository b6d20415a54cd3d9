"""The graph of a model as files of OpenVINO."""

from pathlib import Path

from pipelines.runtimes.openvino import import_openvino


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Write a graph for OpenVINO: `path`, which ends with .xml, and its weights in float32 beside it, in .bin."""
    openvino = import_openvino()
    openvino.save_model(openvino.Core().read_model(onnx_file), path, compress_to_fp16=False)
