"""A network that OpenVINO cannot compute is refused with what it lacks, and a full disk is reported."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from pipelines.base.errors import ConfigError
from pipelines.export.openvino_file import write_openvino
from tests.small_disk import fill, small_disk


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


def test_full_disk_is_reported_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((256, 1024), np.float32), "weights")
    images, scores = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name, width in (("images", 256), ("scores", 1024))
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weights"], ["scores"])], "one layer", [images], [scores], [weights]
    )
    onnx_file = tmp_path / "model.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(onnx_file))
    with small_disk("2m") as disk:
        filler = fill(disk, free_bytes=1 << 19)
        with pytest.raises(OSError, match="No space left on device") as raised:
            write_openvino(onnx_file, disk / "model.xml")
        assert raised.value.filename == str(disk)
        assert list(disk.iterdir()) == [filler]
