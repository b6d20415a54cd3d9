"""ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipelines.runtimes.base import Arrays, Runtime, Session


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    package = "onnxruntime"
    graph_file = "model.onnx"

    def load(self, graph: Path, precision: str, threads: int | None = None) -> Session:
        return _OnnxSession(graph, threads)


class _OnnxSession:
    def __init__(self, graph: Path, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def input_names(self) -> Sequence[str]:
        return [given.name for given in self._session.get_inputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        values = self._session.run(None, {name: inputs[name] for name in self.input_names})
        return dict(zip(self._outputs, values, strict=True))
