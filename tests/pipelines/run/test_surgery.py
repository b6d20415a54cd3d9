"""Complete runs of networks changed by surgery have a result, and their exported models predict the same."""

import copy
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from backbones.create import create_backbone
from pipelines.base.errors import ConfigError
from pipelines.inference.export import Categories, export_model, load_exported
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Answer, Predictor
from pipelines.inference.saved import read_saved
from pipelines.model import MultiTaskModel, build_model
from pipelines.run.saved_run import load_document, load_run
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, write_yaml

Command = Callable[..., int]

CHANGED = {
    "attention": [{"kind": "gc", "stages": ["c2", "c3"]}, {"kind": "nl"}],
    "deformable": ["c5"],
    "freeze_batchnorm": True,
    "stochastic_depth": 0.1,
}


@pytest.fixture(scope="module")
def fit(
    command: Command, small: dict[str, Any], demo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunDir]:
    """Return a function that runs the small document with another backbone, whose weights are in `weights`."""

    def run(backbone: dict[str, Any], weights: Path, **values: Any) -> RunDir:
        document = copy.deepcopy(small)
        document["model"]["backbone"] = backbone
        for field, value in values.items():
            document = apply_override(document, field, value)
        folder = tmp_path_factory.mktemp("surgery")
        (folder / "job.yaml").write_text(write_yaml(document))
        run_dir = RunDir.of(folder / "run")
        places = ("--data-root", demo_root.parent, "--weights-root", weights, "--run-dir", run_dir.path)
        assert command("fit", "--config", folder / "job.yaml", *places) == 0
        return run_dir

    return run


@pytest.fixture(scope="module")
def folded(fit: Callable[..., RunDir], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Return a finished run of a network with branches and averaged weights; tests must not change it."""
    backbone = {"name": "repvgg_a0", "weights": "none", "surgery": {"reparameterize": True}}
    return fit(backbone, tmp_path_factory.mktemp("none"), **{"trainer.max_epochs": 1, "data.image_size": 64})


def answers(model: MultiTaskModel, job: JobSpec, categories: Categories, demo_root: Path) -> list[Answer]:
    return Predictor(TorchNetwork(model, "cpu"), job, categories).predict(
        sorted((demo_root / "images/test").iterdir())[:2]
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def branches(keys: Iterable[str]) -> tuple[bool, bool]:
    """Return whether the keys contain branches, and whether they contain folded branches."""
    keys = list(keys)
    return any("conv_kxk" in key for key in keys), any("reparam_conv" in key for key in keys)


def test_changed_network_is_trained_and_scored_and_its_export_predicts_the_same(
    fit: Callable[..., RunDir], demo_root: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = create_backbone("resnet14_thin").body.network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    run_dir = fit({"name": "resnet14_thin", "weights": "resnet.pth", "surgery": CHANGED}, tmp_path)
    assert read_json(run_dir.result)["summary"]
    saved = load_run(*load_document(run_dir.path))
    assert answers(saved.network(), saved.job, saved.categories, demo_root) == answers(
        *load_exported(run_dir.model), demo_root
    )
    body = {key.removeprefix("backbone.body.network."): value for key, value in saved.state.items()}
    for new in ("layer4.0.conv2.offset.weight", "layer3.0_attention.z.weight", "layer1.0.se.mlp_add.fc2.weight"):
        assert bool((body[new] != 0).any()), f"{new} was never trained"
    for kept in ("layer4.0.bn2.weight", "layer4.0.bn2.running_var"):
        assert torch.equal(body[kept], network.state_dict()[kept]), f"{kept} was frozen"


def test_checkpoints_keep_branches_and_the_export_is_folded(folded: RunDir) -> None:
    for checkpoint in (folded.best_checkpoint, folded.last_checkpoint):
        assert branches(torch.load(checkpoint, weights_only=True)["state_dict"]) == (True, False)
    model, job, _ = load_exported(folded.model)
    assert branches(load_file(ExportedModelDir(folded.model).weights)) == branches(model.state_dict()) == (False, True)
    assert read_json(folded.result)["model"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert job.model.backbone.surgery.reparameterize


def test_folded_network_scores_and_predicts_like_its_branches(
    folded: RunDir, command: Command, demo_root: Path
) -> None:
    """During training, `val` was scored with the averaged branches."""
    assert command("validate", "--run-dir", folded.path) == 0
    assert command("test", "--run-dir", folded.path) == 0
    (validated,), (tested,) = ((folded.path / "eval").glob(f"{name}-*/result.json") for name in ("validate", "test"))
    result = read_json(folded.result)
    assert read_json(validated)["summary"] == pytest.approx(result["val"]["summary"], abs=1e-3)
    assert read_json(tested)["summary"] == pytest.approx(result["summary"], abs=1e-6)
    saved = load_run(*load_document(folded.path))
    model, job, categories = saved.network(), saved.job, saved.categories
    assert model.is_folded
    assert answers(model, job, categories, demo_root) == answers(*load_exported(folded.model), demo_root)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with_branches = build_model(job.model, categories)
    with_branches.load_state_dict(saved.state)
    with torch.no_grad():
        expected, found = with_branches.eval().features(images), model.eval().features(images)
    for level, feature in expected.items():
        assert (found[level] - feature).abs().max() <= 1e-5 * feature.abs().max()


def test_run_without_a_result_is_evaluated_again_with_the_same_result(
    folded: RunDir, command: Command, demo_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(folded.path, tmp_path / "run")
    again = RunDir.of(tmp_path / "run")
    again.result.unlink()
    shutil.rmtree(again.model)
    words = ("--config", folded.path.parent / "job.yaml", "--data-root", demo_root.parent, "--run-dir", again.path)
    assert command("fit", *words) == 0
    assert read_json(again.result)["summary"] == read_json(folded.result)["summary"]
    assert ExportedModelDir(again.model).weights.read_bytes() == ExportedModelDir(folded.model).weights.read_bytes()


def test_new_run_starts_from_the_checkpoint_and_not_from_the_folded_network(folded: RunDir) -> None:
    with pytest.raises(ConfigError, match=r"branches are folded .*; name checkpoints/best\.ckpt of its run"):
        read_saved(folded.model, "model.init_from")
    assert branches(read_saved(folded.best_checkpoint, "model.init_from").state) == (True, False)


def test_branches_are_not_exported_if_the_document_folds_them(folded: RunDir, tmp_path: Path) -> None:
    _, job, categories = load_exported(folded.model)
    with pytest.raises(ValueError, match=r"still has its branches; call its fold\(\) first"):
        export_model(build_model(job.model, categories), job, categories, tmp_path)
    assert list(tmp_path.iterdir()) == []
