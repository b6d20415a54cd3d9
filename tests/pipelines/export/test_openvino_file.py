"""A network that OpenVINO cannot compute is refused with what it lacks."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper, save_model

from pipelines.base.errors import ConfigError
from pipelines.export.openvino_file import write_openvino


def test_operation_that_openvino_lacks_is_named(tmp_path: Path) -> None:
    shapes = {"images": [1, 1, 4, 4], "weights": [1, 1, 1, 1], "offsets": [1, 2, 4, 4], "scores": [1, 1, 4, 4]}
    *inputs, output = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    node = helper.make_node("DeformConv", ["images", "weights", "offsets"], ["scores"], kernel_shape=[1, 1])
    graph = helper.make_graph([node], "deformable", inputs, [output])
    onnx_file = tmp_path / "model.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(onnx_file))
    with pytest.raises(
        ConfigError, match=r"--to: got openvino, which lacks .* of this network: DeformConv.*; write --to onnx"
    ):
        write_openvino(onnx_file, tmp_path / "model.xml")
    assert not (tmp_path / "model.xml").exists()
