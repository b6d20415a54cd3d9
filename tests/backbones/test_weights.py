"""Local weight files: loading, reports and rejections."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.weights import read_tensors

NAME = "resnet14_thin"


@pytest.fixture(scope="module")
def full_state() -> dict[str, Tensor]:
    """Return the state dict of the whole network with its classifier, like timm's training scripts save it."""
    row = CATALOG[NAME]
    torch.manual_seed(1)
    return dict(timm.create_model(row.id, **row.kwargs).state_dict())


def _save(state: dict[str, Tensor], path: Path, form: str) -> Path:
    if form == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    contents: dict[str, Any] = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state},
    }
    torch.save(contents[form], path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "plain", "state_dict", "model"])
def test_file_of_a_full_network_loads_except_for_its_classifier(
    form: str, full_state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = _save(full_state, tmp_path / "weights.pth", form)
    backbone = create_backbone(NAME, str(path))
    report = backbone.weights_report
    assert report is not None
    assert report.missing == report.mis_shaped == ()
    assert sorted(report.unexpected) == ["fc.bias", "fc.weight"]
    assert len(report.loaded) == len(full_state) - 2
    own = backbone.state_dict()
    for key in report.loaded:
        torch.testing.assert_close(own[f"body.network.{key}"], full_state[key], rtol=0, atol=0)


def test_report_lists_missing_and_mis_shaped_tensors(full_state: dict[str, Tensor], tmp_path: Path) -> None:
    state = dict(full_state)
    del state["layer1.0.conv1.weight"], state["bn1.num_batches_tracked"]
    state["layer2.0.conv1.weight"] = torch.zeros(5, 5, 3, 3)
    report = create_backbone(NAME, str(_save(state, tmp_path / "w.pth", "plain"))).weights_report
    assert report is not None
    assert report.missing == ("layer1.0.conv1.weight",)
    assert report.mis_shaped == ("layer2.0.conv1.weight",)
    words = str(report)
    assert "1 missing in the file: layer1.0.conv1.weight" in words
    assert "1 of another shape in the file: layer2.0.conv1.weight" in words
    assert "2 unexpected in the file: fc.weight, fc.bias" in words


def test_report_is_none_without_a_file() -> None:
    assert create_backbone(NAME).weights_report is None


def test_file_of_another_network_is_rejected_with_keys_of_both(tmp_path: Path) -> None:
    path = _save({"encoder.block.weight": torch.zeros(2)}, tmp_path / "w.pth", "plain")
    with pytest.raises(ValueError, match="nothing in this file fits") as error:
        create_backbone(NAME, str(path))
    assert "encoder.block.weight" in str(error.value)
    assert "conv1.0.weight" in str(error.value)


def test_matching_batch_counters_do_not_make_a_file_fit(tmp_path: Path) -> None:
    """Counters have the same shape in all networks, and often the same name."""
    state = {"bn1.num_batches_tracked": torch.tensor(5), "conv1.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="nothing in this file fits"):
        create_backbone("resnet14_thin", str(_save(state, tmp_path / "w.pth", "plain")))


@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda x: x.to(torch.complex64), lambda x: x.to("meta")])
def test_tensors_that_cannot_be_copied_are_rejected_by_name(
    change: Callable[[Tensor], Tensor], full_state: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {**full_state, "layer1.0.conv1.weight": change(full_state["layer1.0.conv1.weight"])}
    with pytest.raises(
        ValueError, match=r"layer1\.0\.conv1\.weight are sparse, quantized, complex, packed or on the meta device"
    ):
        create_backbone(NAME, str(_save(state, tmp_path / "w.pth", "plain")))


@pytest.mark.parametrize("form", ["plain", "safetensors"])
def test_weights_that_are_not_finite_are_rejected_by_name(
    full_state: dict[str, Tensor], tmp_path: Path, form: str
) -> None:
    state = {**full_state, "layer1.0.conv1.weight": full_state["layer1.0.conv1.weight"] * torch.nan}
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight hold values that are not finite"):
        create_backbone(NAME, str(_save(state, tmp_path / "w.pth", form)))


def test_tensor_with_more_elements_than_are_stored_is_rejected_by_name(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv1.weight": torch.zeros(1).expand(10**13), "bn1.weight": torch.zeros(8, 2).t()}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"conv1\.weight have more elements than are stored, as after expand"):
        read_tensors(path)


def test_tensors_of_numbers_that_torch_only_stores_are_rejected(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4, dtype=torch.bits8)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="a are sparse, quantized, complex, packed or"):
        read_tensors(tmp_path / "w.pth")


def test_recursive_mapping_is_rejected(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not contain a state dict"):
        create_backbone(NAME, str(tmp_path / "w.pth"))


def test_tensors_without_a_name_are_ignored(full_state: dict[str, Tensor], tmp_path: Path) -> None:
    state: dict[Any, Tensor] = {**full_state, 1: torch.zeros(3)}
    torch.save(state, tmp_path / "w.pth")
    report = create_backbone(NAME, str(tmp_path / "w.pth")).weights_report
    assert report is not None
    assert sorted(report.unexpected) == ["fc.bias", "fc.weight"]


def test_file_that_would_run_code_is_rejected(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"neither a safetensors file nor .*\(more than plain types and tensors\)"):
        create_backbone(NAME, str(tmp_path / "module.pth"))


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "empty.pth", "cut.pth", "table.csv"])
def test_damaged_file_is_rejected(name: str, tmp_path: Path) -> None:
    content = {"empty": b"", "cut": b"PK\x03\x04", "table": b"a,b\n"}
    (tmp_path / name).write_bytes(content.get(name.partition(".")[0], b"no weights at all"))
    with pytest.raises(ValueError, match="neither a safetensors file nor a plain state dict"):
        create_backbone(NAME, str(tmp_path / name))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
def test_file_without_tensors_is_rejected(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not contain a state dict"):
        create_backbone(NAME, str(tmp_path / "w.pth"))


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file not found; write 'none', 'default' or the path"):
        create_backbone(NAME, str(tmp_path / "absent.pth"))
