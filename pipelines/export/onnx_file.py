"""The graph of a model as an ONNX file."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.export.graph import ExportGraph, Nms
from pipelines.model import MultiTaskModel

OPSET = 20
"""Version of ONNX's operators, which both runtimes have."""


@dataclass(frozen=True)
class OnnxGraph:
    """What callers of a graph need to know. The number of images is dynamic.

    Attributes:
        inputs: `images`, and `sizes_hw` if the graph uses it.
        outputs: names such as `cells.scores`.
        nms: where overlapping boxes are dropped.
        fixed_size_hw: the only size of images that the graph takes; None: it takes every multiple of 32.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nms: Nms
    fixed_size_hw: tuple[int, int] | None


def write_onnx(model: MultiTaskModel, path: Path, size_hw: tuple[int, int], nms: Nms = "outside") -> OnnxGraph:
    """Write the graph of a model; the batch, the height and the width are dynamic.

    Args:
        model: a trained network; it is not changed.
        path: of the new file.
        size_hw: multiples of 32, the size of the images that the network is traced with.
        nms: where overlapping boxes are dropped.
    """
    graph = ExportGraph(model)
    images = torch.zeros((2, 3, *size_hw), dtype=torch.uint8)
    sizes_hw = torch.tensor([size_hw, size_hw])
    with torch.no_grad():
        names = list(graph(images, sizes_hw))
        batch = torch.export.Dim("batch", min=1, max=1024)
        height, width = (32 * torch.export.Dim(name, min=1, max=256) for name in ("rows", "columns"))
        program = torch.onnx.export(
            graph,
            (images, sizes_hw),
            dynamo=True,
            dynamic_shapes=({0: batch, 2: height, 3: width}, {0: batch}),
            input_names=["images", "sizes_hw"],
            output_names=names,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
    return OnnxGraph(("images", "sizes_hw"), tuple(names), nms, None)
