"""Quantized exports are small, close to torch, and sent to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.export.variants import ExportRequest, ExportSource, accuracy_control, export_variant
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import load_variant, read_variant

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
    request = ExportRequest("openvino", "int8", max_drop=1.0, calibration_images=8)
    variant = export_variant(source, request, quantized)
    assert variant.servable
    assert variant.parity is None, "integers are not expected to compute the same numbers"
    weights = quantized.variant(variant.name).path / "model.bin"
    assert weights.stat().st_size < 0.4 * (exports.variant("openvino-fp32").path / "model.bin").stat().st_size
    assert read_variant(quantized.variant(variant.name).path) == variant


def test_export_that_falls_too_far_is_kept_and_says_why(source: ExportSource, tmp_path: Path) -> None:
    exports = ExportsDir.of(tmp_path)
    request = ExportRequest("onnxruntime", "int8", max_drop=-1.0, calibration_images=8)
    variant = export_variant(source, request, exports)
    assert not variant.servable
    assert "val/scene/mAP falls by" in variant.reason
    assert "**Do not serve this export**: val/" in exports.variant(variant.name).card.read_text()
    assert load_variant(exports.variant(variant.name).path, threads=1).session.input_names[0] == "images"


def test_accuracy_is_a_score_that_nncf_can_divide_by(source: ExportSource, exports: ExportsDir) -> None:
    """The change from torch alone would be 0 for the network in float32."""
    request = ExportRequest("openvino", "int8", accuracy_aware=True)
    control = accuracy_control(source, request, None, print)
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
