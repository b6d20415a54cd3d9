"""Post-training quantization of graphs to 8-bit integers.

The weights and inputs of convolutions and linear layers become integers, with scales measured on images of the
training split. What follows the last layers, such as the decoding of boxes, stays in float32: 8 bits cannot hold a
coordinate.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.export.openvino_file import save_openvino
from pipelines.runtimes.base import Arrays, Session
from pipelines.runtimes.openvino import OpenVINOSession, import_openvino

LAYERS = ("Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm")
"""Types of operations with weights, in OpenVINO and in ONNX."""
ROI_ALIGN = ("ROIAlign", "RoiAlign")
SELECTIONS = ("NonMaxSuppression", "TopK", *ROI_ALIGN)
"""Types of operations that take boxes or scores."""


@dataclass(frozen=True)
class AccuracyControl:
    """Layers that cost most accuracy stay in float32, until the drop is allowed.

    Attributes:
        score: returns the accuracy of a loaded graph; higher is better.
        max_drop: of the score.
    """

    score: Callable[[Session], float]
    max_drop: float


def quantize_openvino(
    source: Path, target: Path, calibration: Sequence[Arrays], control: AccuracyControl | None = None
) -> None:
    """Write a graph of OpenVINO with integers.

    Args:
        source: .xml file of the graph in float32.
        target: .xml file to write.
        calibration: inputs of the graph, from which the scales are measured.
        control: None: all layers are quantized.

    Raises:
        OSError: the disk is full.
    """
    openvino, nncf = import_openvino(), _import_nncf()
    graph = openvino.Core().read_model(source)
    _fold_constants(graph)
    names = [given.get_any_name() for given in graph.inputs]
    dataset = nncf.Dataset(list(calibration), lambda inputs: {name: inputs[name] for name in names})
    settings = _settings(nncf, _openvino_decoding(graph), len(calibration))
    if control is None:
        quantized = nncf.quantize(graph, dataset, **settings)
    else:
        quantized = nncf.quantize_with_accuracy_control(
            graph,
            calibration_dataset=dataset,
            # The score is that of all of val, which the function reads by itself.
            validation_dataset=nncf.Dataset([0]),
            validation_fn=lambda model, items: (control.score(OpenVINOSession(model)), None),
            max_drop=control.max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            **settings,
        )
    save_openvino(quantized, target, source.with_suffix(".bin").stat().st_size)


def _fold_constants(graph: Any) -> None:
    """Compute what depends on constants only.

    Biases are reshaped constants in a graph that was read from ONNX. nncf does not recognize these, and would not
    correct them for the error of the integers.
    """
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)


def quantize_onnx(source: Path, target: Path, calibration: Sequence[Arrays]) -> None:
    """Write a graph of ONNX with integers, see `quantize_openvino`."""
    import onnx

    nncf = _import_nncf()
    graph = onnx.load(str(source))
    names = [given.name for given in graph.graph.input]
    dataset = nncf.Dataset(list(calibration), lambda inputs: {name: inputs[name] for name in names})
    settings = _settings(nncf, _onnx_decoding(graph), len(calibration))
    onnx.save(nncf.quantize(graph, dataset, **settings), str(target))


def _import_nncf() -> Any:
    import_openvino()
    import nncf

    nncf.set_log_level("ERROR")
    return nncf


def _settings(nncf: Any, ignored: Sequence[str], num_images: int) -> dict[str, Any]:
    return {
        # Activations have zero points: after other activations than ReLU, zero is not at the end of the range.
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": num_images,
        "ignored_scope": nncf.IgnoredScope(names=list(ignored), validate=False),
    }


def _openvino_decoding(graph: Any) -> list[str]:
    """Return the names of the operations after the last layers."""
    operations = graph.get_ops()
    starts = [result.input_value(0).get_node() for result in graph.get_results()]
    for operation in operations:
        kind = operation.get_type_name()
        if kind.startswith(SELECTIONS):
            # The first input of RoI align is a feature map, which is quantized as usual.
            first = 1 if kind.startswith(ROI_ALIGN) else 0
            starts += [operation.input_value(i).get_node() for i in range(first, operation.get_input_size())]

    def inputs_of(node: Any) -> Iterable[Any]:
        return (node.input_value(i).get_node() for i in range(node.get_input_size()))

    return _before(starts, inputs_of, lambda node: node.get_type_name(), lambda node: node.get_friendly_name())


def _onnx_decoding(model: Any) -> list[str]:
    """Return the names of the nodes after the last layers."""
    by_output = {name: node for node in model.graph.node for name in node.output}
    ends = [output.name for output in model.graph.output]
    for node in model.graph.node:
        if node.op_type in SELECTIONS:
            ends += node.input[1:] if node.op_type in ROI_ALIGN else node.input
    starts = [by_output[name] for name in ends if name in by_output]

    def inputs_of(node: Any) -> Iterable[Any]:
        return (by_output[name] for name in node.input if name in by_output)

    return _before(starts, inputs_of, lambda node: str(node.op_type), lambda node: str(node.name))


def _before(
    starts: Sequence[Any],
    inputs_of: Callable[[Any], Iterable[Any]],
    kind_of: Callable[[Any], str],
    name_of: Callable[[Any], str],
) -> list[str]:
    """Return the names of nodes on the ways from layers to `starts`, sorted."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        kind, name = kind_of(node), name_of(node)
        if name in found or kind in (*LAYERS, "Constant", "Parameter") or kind.startswith(ROI_ALIGN):
            continue
        found.add(name)
        waiting += inputs_of(node)
    return sorted(found)
