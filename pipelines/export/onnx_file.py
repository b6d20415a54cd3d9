"""The graph of a model as an ONNX file."""

from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from heads.graph_detections import LOWEST_SCORE
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.export.graph import ExportGraph
from pipelines.model import MultiTaskModel
from pipelines.spec.exported_variant import MAX_SIDE_PX, Nms

OPSET = 20
"""Version of ONNX's operators, which both runtimes have."""
TRACED_BATCH = 3
TRACED_HW = (288, 416)
"""Size of the images that a dynamic graph is traced with. No level has one row or column, and the levels differ: with
64 x 64, the exporter took sizes that are equal by chance for the same size."""
POSITIONS = ("pos_embed", "relative_position_bias_table")
"""Names of parameters with learned positions in networks of timm."""
MAX_BATCH = 1024
"""Largest number of images that a graph takes at once."""


@dataclass(frozen=True)
class OnnxGraph:
    """What callers of a graph need to know. The number of images is dynamic.

    Attributes:
        inputs: `images`, and `sizes_hw` if the graph uses it.
        nms: where overlapping boxes are dropped.
        fixed_size_hw: the only size of images that the graph takes; None: it takes every multiple of 32.
    """

    inputs: tuple[str, ...]
    nms: Nms
    fixed_size_hw: tuple[int, int] | None

    @property
    def sizes_hw(self) -> tuple[tuple[int, int], ...] | None:
        """The sizes of images that the graph takes; None: any."""
        return None if self.fixed_size_hw is None else (self.fixed_size_hw,)


def write_onnx(model: MultiTaskModel, path: Path, size_hw: tuple[int, int], nms: Nms = "outside") -> OnnxGraph:
    """Write the graph of a model, and return its properties.

    The height and the width are dynamic if the backbone allows it.

    Args:
        model: a trained network; it is not changed.
        path: of the new file.
        size_hw: multiples of 32, the size of images of a graph whose height and width cannot be dynamic.
        nms: see `ExportGraph`.

    Raises:
        ConfigError: a head cannot be exported in this way, or an operation of the network has no counterpart in ONNX.
    """
    try:
        graph = ExportGraph(model, nms)
        with torch.no_grad():
            graph(*_example(size_hw))  # raises errors of the heads before the export, which takes long
        program, is_dynamic = _trace(graph, size_hw)
        inputs = _write(program, path)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(FieldProblem("model", f"cannot be exported: {reason}")) from error
    return OnnxGraph(inputs, graph.nms, None if is_dynamic else size_hw)


def _write(program: ExportedProgram, path: Path) -> tuple[str, ...]:
    """Write the file, and return the names of the inputs that the graph uses; the others are removed from it."""
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["images", "sizes_hw"],
        output_names=_output_names(program),
        opset_version=OPSET,
        custom_translation_table={torch.ops.pyramidion.non_max_suppression.default: _non_max_suppression()},
        verbose=False,
    )
    assert exported is not None
    inputs = exported.model.graph.inputs
    inputs[:] = [given for given in inputs if given.uses()]
    exported.save(str(path))
    return tuple(str(given.name) for given in inputs)


def _trace(graph: ExportGraph, size_hw: tuple[int, int]) -> tuple[ExportedProgram, bool]:
    """Return the traced graph, and whether its height and width are dynamic."""
    if not has_positions(graph.model.backbone):
        try:
            height, width = (32 * Dim(name, min=1, max=MAX_SIDE_PX // 32) for name in ("rows", "columns"))
            return _trace_at(graph, TRACED_HW, {2: height, 3: width}), True
        except (RuntimeError, ValueError):
            pass  # many errors stand for a condition on sizes that cannot be proven; others occur again below
    _fix_positions(graph.model.backbone, size_hw)
    return _trace_at(graph, size_hw, {}), False


def _fix_positions(backbone: nn.Module, size_hw: tuple[int, int]) -> None:
    """Resize learned positions to the only size of images; the resize in the graph then changes nothing."""
    for module in backbone.modules():
        # A vision transformer of timm.
        if getattr(module, "dynamic_img_size", False) and hasattr(module, "set_input_size"):
            module.set_input_size(img_size=size_hw)  # type: ignore[operator]


def has_positions(backbone: nn.Module) -> bool:
    """Return whether a backbone has learned positions of tokens or windows, as ViT and Swin have.

    They are resized to the image, which OpenVINO computes differently (by 0.006 in the score of a ViT), and windows
    depend on the size in ways that take the exporter minutes. With a fixed size, positions are resized before.
    """
    return any(name.rpartition(".")[2] in POSITIONS for name, _ in backbone.named_parameters())


def _trace_at(graph: ExportGraph, size_hw: tuple[int, int], dynamic: dict[int, Any]) -> ExportedProgram:
    batch = Dim("batch", min=1, max=MAX_BATCH)
    # torch prints thousands of lines, the graph so far, before it raises an error.
    with torch.no_grad(), redirect_stderr(StringIO()):
        return torch.export.export(
            graph, _example(size_hw), dynamic_shapes=({0: batch, **dynamic}, {0: batch}), strict=False
        )


def _example(size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    images = torch.zeros((TRACED_BATCH, 3, *size_hw), dtype=torch.uint8)
    return images, torch.tensor([size_hw] * TRACED_BATCH)


def _output_names(program: ExportedProgram) -> list[str]:
    spec = program.call_spec.out_spec
    assert spec is not None
    return list(spec.context)


def _non_max_suppression() -> Callable[..., Any]:
    from onnxscript import opset20

    op: Any = opset20  # its annotations do not accept constants

    def translate(boxes: Any, scores: Any, max_iou: float, limit: int) -> Any:
        constants = (
            op.Constant(value_ints=[limit]),
            op.Constant(value_floats=[max_iou]),
            op.Constant(value_floats=[LOWEST_SCORE]),
        )
        return op.NonMaxSuppression(boxes, scores, *constants)

    return translate
