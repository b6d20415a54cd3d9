"""Published detectors without internet access: requests go to a loopback address, and tests fill the cache."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

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


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server of the folder `served`."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("is_intact", [True, False])
def test_downloaded_file_is_verified_by_its_hash(
    is_intact: bool, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"detector-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / name).write_bytes(b"weights" if is_intact else b"other")
    monkeypatch.setattr(RetinaNet_ResNet50_FPN_Weights.COCO_V1.value, "url", f"{served}/{name}")
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    assert publication_problem(NAME) is None
    if is_intact:
        assert download_published(NAME).read_bytes() == b"weights"
        assert norm_eps(published_file(NAME)) == 0
    else:
        with pytest.raises(
            ValueError, match=r"was not downloaded completely .*; start again, or download it elsewhere"
        ):
            download_published(NAME)
        assert list(published_file(NAME).parent.iterdir()) == []


def test_host_that_never_answers_is_reported_within_seconds_with_a_remedy(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        download_published(NAME)
    assert time.monotonic() - start < 60
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
