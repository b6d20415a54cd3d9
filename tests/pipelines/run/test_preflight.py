"""What can be known to be wrong before anything is started."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ConfigError
from pipelines.run.preflight import Inputs, Places, find_weights, preflight
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]


def test_names_of_the_document_become_places(small: Document, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.safetensors").touch()
    job = validate_document(apply_override(small, "model.backbone.weights", "a.safetensors"))
    inputs = preflight(job, Places([tmp_path], [tmp_path / "w"]))
    assert inputs == Inputs(tmp_path / "demo", str(tmp_path / "w" / "a.safetensors"))
    assert preflight(job, Places([], [tmp_path / "w"], data_root=tmp_path)).data == tmp_path


def test_all_that_is_wrong_is_told_at_once(small: Document, tmp_path: Path) -> None:
    document = apply_override(apply_override(small, "model.backbone.name", "resnet5O"), "data.root", "demmo")
    document = apply_override(apply_override(document, "model.backbone.weights", "a.pth"), "model.select.metric", "AP")
    with pytest.raises(ConfigError) as caught:
        preflight(validate_document(document), Places([tmp_path], [tmp_path]))
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["model.backbone.name", "model.backbone.weights", "model.select.metric", "data.root"]


@pytest.mark.parametrize("weights", ["/etc/passwd", "../a.pth", "link.pth", "absent.pth"])
def test_weights_that_do_not_lie_below_a_root_are_refused(weights: str, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "a.pth").touch()
    (tmp_path / "roots" / "link.pth").symlink_to(tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"model\.backbone\.weights"):
        find_weights(weights, [tmp_path / "roots"])


def test_weights_below_two_roots_are_refused(tmp_path: Path) -> None:
    for root in ("a", "b"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "w.pth").touch()
    with pytest.raises(ConfigError, match="is there twice"):
        find_weights("w.pth", [tmp_path / "a", tmp_path / "b"])
    assert find_weights("w.pth", [tmp_path / "a", tmp_path / "a"]) == str(tmp_path / "a" / "w.pth")
