"""OpenVINO."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipelines.runtimes.base import Arrays, Runtime, Session

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precision of the operations that are not quantized."""


def import_openvino() -> Any:
    """Return the package, which then sends no usage statistics.

    OpenVINO's tools and nncf send them with the package openvino_telemetry, and without it they do nothing. It is made
    unavailable to this process before they are imported; no other switch keeps it from creating files in the home
    folder.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


class OpenVINO(Runtime):
    """OpenVINO on the CPU."""

    name = "openvino"
    package = "openvino"
    graph_file = "model.xml"

    def load(self, graph: Path, precision: str, threads: int | None = None) -> Session:
        core = import_openvino().Core()
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        return OpenVINOSession(core.compile_model(core.read_model(graph), "CPU", properties))


class OpenVINOSession:
    """A graph that OpenVINO has compiled."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._outputs = [output.get_any_name() for output in self._model.outputs]

    @property
    def input_names(self) -> Sequence[str]:
        """The names of the inputs."""
        return [given.get_any_name() for given in self._model.inputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, see `Session.run`."""
        request = self._model.create_infer_request()
        values = request.infer({name: inputs[name] for name in self.input_names})
        return {name: values[index].copy() for index, name in enumerate(self._outputs)}
