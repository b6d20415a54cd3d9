"""Downloads from URLs, without internet access: servers are on loopback addresses."""

import hashlib
import socket
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import torch

from backbones.weights_sources.rows import DETECTORS
from backbones.weights_sources.url_file import UrlFile
from tests.http_server import handling

DETECTOR = DETECTORS["retinanet_resnet50_fpn"]


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
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server of the folder `served`."""
    (tmp_path / "served").mkdir()
    with handling(SimpleHTTPRequestHandler, directory=str(tmp_path / "served")) as url:
        yield url


@pytest.mark.parametrize("is_intact", [True, False])
def test_downloaded_file_is_verified_by_its_hash(is_intact: bool, served: str, tmp_path: Path) -> None:
    name = f"detector-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (tmp_path / "served" / name).write_bytes(b"weights" if is_intact else b"other")
    source = UrlFile(f"{served}/{name}", "mit")
    assert source.problem() is None
    if is_intact:
        assert source.provide() == source.path() == source.cache / name
        assert source.provide().read_bytes() == b"weights"
        assert source.fetch(tmp_path / "to") == tmp_path / "to" / name
    else:
        with pytest.raises(
            ValueError, match=r"was not downloaded completely .*; start again, or download it elsewhere"
        ):
            source.provide()
        assert list(source.cache.iterdir()) == []


def test_host_that_never_answers_is_reported_within_seconds_with_a_remedy(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        DETECTOR.provide()
    assert time.monotonic() - start < 60
    message = str(caught.value)
    assert f"retinanet_resnet50_fpn_coco-eeacb38b.pth is not in {tmp_path}/torch/hub/checkpoints" in message
    assert "download https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth where" in message
    assert "put the file below a weights root, and write its name instead" in message


def test_cache_is_torchs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert DETECTOR.cache == Path(torch.hub.get_dir(), "checkpoints")
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert DETECTOR.cache == Path(torch.hub.get_dir(), "checkpoints")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert DETECTOR.cache == Path(torch.hub.get_dir(), "checkpoints")
