"""OpenVINO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipelines.runtimes.base import Arrays, Runtime, Session

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precision of the operations that are not quantized."""


class OpenVINO(Runtime):
    """OpenVINO on the CPU."""

    name = "openvino"
    package = "openvino"
    precisions = ("fp32", "bf16", "int8")
    graph_file = "model.xml"

    def load(self, graph: Path, precision: str, threads: int | None = None) -> Session:
        return _OpenVINOSession(graph, precision, threads)


class _OpenVINOSession:
    def __init__(self, graph: Path, precision: str, threads: int | None) -> None:
        import openvino

        core = openvino.Core()
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(core.read_model(graph), "CPU", properties)
        self._outputs = [output.get_any_name() for output in self._model.outputs]

    @property
    def input_names(self) -> Sequence[str]:
        return [given.get_any_name() for given in self._model.inputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        request = self._model.create_infer_request()
        values = request.infer({name: inputs[name] for name in self.input_names})
        return {name: values[index].copy() for index, name in enumerate(self._outputs)}
