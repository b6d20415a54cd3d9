"""Names of what computes a registered model, as operators and clients choose it. Torch-free."""

from typing import Literal

RuntimeChoice = Literal["auto", "torch", "torch-bf16", "onnxruntime", "openvino"]
"""`auto` is the fastest export of a version that may be served, and torch if the version has none; `onnxruntime` and
`openvino` are the fastest one of this runtime; `torch-bf16` computes in bfloat16 where that is fast."""
