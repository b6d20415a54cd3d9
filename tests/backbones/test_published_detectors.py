"""Published detectors without internet access: requests go to a loopback address, and tests fill the cache."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbones.published_detectors import (
    EPS,
    coco_classes,
    download_published,
    norm_eps,
    publication_problem,
    published_file,
)

NAME = "retinanet_resnet50_fpn"


@pytest.fixture
def firewall() -> Iterator[str]:
    """Return the address of a port that accepts connections and never answers, as behind a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _empty_cache_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firewall: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, firewall)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_host_that_never_answers_is_reported_within_seconds_with_a_remedy(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        download_published(NAME)
    assert time.monotonic() - start < 12
    message = str(caught.value)
    assert f"the weights of {NAME} are not in {tmp_path}/torch/hub/checkpoints" in message
    assert "download https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth where" in message
    assert "put the file below a weights root, and write its name instead" in message


def test_cached_file_is_used_without_a_request() -> None:
    published_file(NAME).parent.mkdir(parents=True)
    published_file(NAME).write_bytes(b"weights")
    assert publication_problem(NAME) is None
    assert download_published(NAME) == published_file(NAME)


def test_file_that_is_not_the_published_one_has_norms_with_epsilon(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    assert norm_eps(tmp_path / "a.pth") == EPS


def test_classes_are_those_of_coco() -> None:
    names = coco_classes()
    assert (len(names), names[0], names[1], names[90]) == (91, "__background__", "person", "toothbrush")
    assert len(set(names) - {"__background__", "N/A"}) == 80
