"""Published detectors: their classes, and the norms of their files. Their downloads are tested with the sources."""

import hashlib
from pathlib import Path

import pytest
from torchvision.models import get_model_weights

from backbones.published_detectors import COCO, EPS, coco_classes, norm_eps
from backbones.weights_sources.rows import DETECTORS
from backbones.weights_sources.url_file import UrlFile


@pytest.mark.parametrize("name", DETECTORS)
def test_recorded_address_is_torchvisions(name: str) -> None:
    assert DETECTORS[name].url == get_model_weights(name).DEFAULT.url


def test_published_file_is_recognized_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    monkeypatch.setitem(DETECTORS, COCO, UrlFile("https://localhost/coco-9fb9c8aa.pth", "mit"))
    assert norm_eps(tmp_path / "a.pth") == EPS
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(DETECTORS, COCO, UrlFile(f"https://localhost/coco-{digest[:8]}.pth", "mit"))
    assert norm_eps(tmp_path / "a.pth") == 0


def test_classes_are_those_of_coco() -> None:
    names = coco_classes()
    assert (len(names), names[0], names[1], names[90]) == (91, "__background__", "person", "toothbrush")
    assert len(set(names) - {"__background__", "N/A"}) == 80
