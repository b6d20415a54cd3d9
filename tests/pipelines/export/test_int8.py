"""Quantized exports are small, close to torch, and sent to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from pipelines.export.openvino_file import write_openvino
from pipelines.export.quantization import quantize_openvino
from pipelines.export.variants import ExportSource, accuracy_control, export_variant
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.runtimes.openvino import import_openvino
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import load_variant, read_variant
from pipelines.spec.export_settings import ExportSettings

pytestmark = pytest.mark.integration

WITHOUT_A_NETWORK = """
import socket

def refuse(*arguments, **settings):
    print("connects to", arguments)
    raise OSError("no network in this test")

socket.socket.connect = socket.getaddrinfo = refuse
from pipelines.export import quantization
quantization._import_nncf().quantize
import openvino.tools.ovc
"""


def test_openvino_computes_integers(source: ExportSource, exports: ExportsDir, tmp_path: Path) -> None:
    quantized = ExportsDir.of(tmp_path)
    settings = ExportSettings(to="openvino", precision="int8", max_drop=1.0, calibration_images=8)
    variant = export_variant(source, settings, quantized)
    assert variant.servable
    assert variant.parity is None, "integers are not expected to compute the same numbers"
    weights = quantized.variant(variant.name).path / "model.bin"
    assert weights.stat().st_size < 0.4 * (exports.variant("openvino-fp32").path / "model.bin").stat().st_size
    assert read_variant(quantized.variant(variant.name).path) == variant


def test_biases_are_corrected_for_the_error_of_the_integers(tmp_path: Path) -> None:
    """The means of the outputs stay those of the graph in float32."""
    generator = np.random.default_rng(0)
    arrays = {"weights": generator.random((4, 3, 3, 3)) ** 4, "biases": np.full(4, 0.5)}
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in arrays.items()]
    images, scores = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 16, 16])
        for name, channels in (("images", 3), ("scores", 4))
    )
    node = helper.make_node("Conv", ["images", "weights", "biases"], ["maps"], pads=[1, 1, 1, 1])
    nodes = [node, helper.make_node("Relu", ["maps"], ["scores"])]
    model = helper.make_model(
        helper.make_graph(nodes, "one layer", [images], [scores], constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    save_model(model, str(tmp_path / "model.onnx"))
    write_openvino(tmp_path / "model.onnx", tmp_path / "float.xml")
    inputs = [{"images": generator.random((1, 3, 16, 16), dtype=np.float32)} for _ in range(8)]
    quantize_openvino(tmp_path / "float.xml", tmp_path / "int8.xml", inputs)
    biases = [
        operation.get_data().ravel()
        for operation in import_openvino().Core().read_model(tmp_path / "int8.xml").get_ops()
        if operation.get_type_name() == "Constant" and list(operation.shape) == [1, 4, 1, 1]
    ]
    assert any(0 < np.abs(own - 0.5).max() < 0.1 for own in biases)


def test_export_that_falls_too_far_is_kept_and_says_why(source: ExportSource, tmp_path: Path) -> None:
    exports = ExportsDir.of(tmp_path)
    settings = ExportSettings(to="onnx", precision="int8", calibration_images=8).model_copy(update={"max_drop": -1.0})
    variant = export_variant(source, settings, exports)
    assert not variant.servable
    assert "val/scene/mAP falls by" in variant.reason
    assert "**Do not serve this export**: val/" in exports.variant(variant.name).card.read_text()
    assert load_variant(exports.variant(variant.name).path, threads=1).session.input_names[0] == "images"


def test_accuracy_is_a_score_that_nncf_can_divide_by(source: ExportSource, exports: ExportsDir) -> None:
    """The change from torch alone would be 0 for the network in float32."""
    settings = ExportSettings(to="openvino", precision="int8", accuracy_aware=True)
    control = accuracy_control(source, settings, None, print)
    assert control is not None
    session = RUNTIMES["openvino"].load(exports.variant("openvino-fp32").path / "model.xml", "fp32", threads=1)
    assert control.score(session) == pytest.approx(1, abs=0.005)


def test_no_usage_statistics_are_written_or_sent(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("CI", "NNCF_CI", "NNCF_DEV"):
        environment.pop(name, None)
    command = [sys.executable, "-c", WITHOUT_A_NETWORK]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "connects to" not in done.stdout
    assert [str(path) for path in tmp_path.rglob("*intel*")] == []
