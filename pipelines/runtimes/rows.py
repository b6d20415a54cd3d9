"""The runtimes by name. Torch-free."""

from pipelines.runtimes.base import Runtime
from pipelines.runtimes.onnx_runtime import OnnxRuntime
from pipelines.runtimes.openvino import OpenVINO

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OnnxRuntime(), OpenVINO())}
