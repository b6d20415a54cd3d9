"""Problems that are found before a run starts."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.preflight import Inputs, Places, find_data, find_init_from, find_weights, preflight
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]


def test_names_in_the_document_are_resolved(small: Document, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.safetensors").touch()
    job = validate_document(apply_override(small, "model.backbone.weights", "a.safetensors"))
    inputs = preflight(job, Places([tmp_path], [tmp_path / "w"]))
    assert inputs == Inputs(tmp_path / "demo", str(tmp_path / "w" / "a.safetensors"))
    assert preflight(job, Places([], [tmp_path / "w"], data_root=tmp_path)).data == tmp_path


def test_all_problems_are_reported_at_once(small: Document, tmp_path: Path) -> None:
    document = apply_override(apply_override(small, "model.backbone.name", "resnet5O"), "data.root", "demmo")
    document = apply_override(apply_override(document, "model.backbone.weights", "a.pth"), "model.select.metric", "AP")
    with pytest.raises(ConfigError) as caught:
        preflight(validate_document(document), Places([tmp_path], [tmp_path]))
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["model.backbone.name", "model.backbone.weights", "model.select.metric", "data.root"]


def _with_backbone(small: Document, **backbone: Any) -> Document:
    return {**small, "model": {**small["model"], "backbone": backbone}}


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        (
            {"name": "mobileone_s0"},
            "model.backbone.accept_license: .* mobileone-license, which is not a standard permissive license",
        ),
        ({"name": "tv:regnet_y_128gf"}, "model.backbone.accept_license: .* which forbids commercial use"),
        ({"name": "resnet14_thin"}, "model.backbone.weights: .* has no default weights; write `weights: none`"),
        ({"name": "timm:seresnet18", "accept_license": True}, "model.backbone.weights: .* has no default weights"),
    ],
)
def test_default_weights_that_do_not_exist_or_have_terms_are_rejected(
    backbone: Document, problem: str, small: Document, tmp_path: Path
) -> None:
    (tmp_path / "demo").mkdir()
    places = Places([tmp_path], [])
    with pytest.raises(ConfigError, match=f"^{problem}"):
        preflight(validate_document(_with_backbone(small, **backbone)), places)
    assert preflight(validate_document(_with_backbone(small, **backbone)), places, is_new=False).weights == "none"
    assert preflight(validate_document(_with_backbone(small, **backbone, weights="none")), places).weights == "none"


def test_weights_with_terms_are_used_if_the_document_accepts_them(small: Document, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    document = _with_backbone(small, name="mobileone_s0", accept_license=True)
    assert preflight(validate_document(document), Places([tmp_path], [])).weights == "default"


def test_run_with_init_from_does_not_need_default_weights_yet(small: Document, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "earlier.ckpt").touch()
    document = _with_backbone(small, name="mobileone_s0")
    job = validate_document(apply_override(document, "model.init_from", "earlier.ckpt"))
    assert preflight(job, Places([tmp_path], [tmp_path])).init_from == str(tmp_path / "earlier.ckpt")


@pytest.mark.parametrize("weights", ["/etc/passwd", "../a.pth", "link.pth", "absent.pth"])
def test_weights_outside_the_roots_are_rejected(weights: str, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "a.pth").touch()
    (tmp_path / "roots" / "link.pth").symlink_to(tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"model\.backbone\.weights"):
        find_weights(weights, [tmp_path / "roots"])


def test_weights_below_two_roots_are_rejected(tmp_path: Path) -> None:
    for root in ("a", "b"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "w.pth").touch()
    with pytest.raises(ConfigError, match="exists twice"):
        find_weights("w.pth", [tmp_path / "a", tmp_path / "b"])
    assert find_weights("w.pth", [tmp_path / "a", tmp_path / "a"]) == str(tmp_path / "a" / "w.pth")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A weights root with runs of several states."""
    root = tmp_path / "roots"
    for name in ("best/checkpoints/best", "best/checkpoints/last", "young/checkpoints/last", "out/checkpoints/other"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.ckpt").touch()
    for name in ("best/model", "exported/model"):
        (root / name).mkdir(parents=True)
        (root / name / "model.json").touch()
    (root / "empty").mkdir()
    (tmp_path / "secret.ckpt").touch()
    (root / "out/checkpoints/best.ckpt").symlink_to(tmp_path / "secret.ckpt")
    (root / "link").symlink_to(tmp_path)
    return root


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("best", "best/checkpoints/best.ckpt"),
        ("best/checkpoints/last.ckpt", "best/checkpoints/last.ckpt"),
        ("best/model", "best/model"),
        ("exported", "exported/model"),
    ],
)
def test_init_from_is_a_file_or_an_exported_model(name: str, path: str, runs: Path) -> None:
    assert find_init_from(name, [runs.parent / "other", runs]) == str(runs / path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/etc/passwd", "weights must be below a weights root"),
        ("../secret.ckpt", "write it without '..'"),
        ("link/secret.ckpt", "is a link that leads out"),
        ("out", "is a link that leads out"),
        ("absent", "which does not exist; write models:/NAME@ALIAS, tv:NAME, or a run folder, a checkpoint"),
        ("young", "it has no best checkpoint yet; .* young/checkpoints/last.ckpt"),
        ("empty", "it contains neither checkpoints/best.ckpt nor model.json"),
        ("tv:ssd300_vgg16", "write tv:retinanet_resnet50_fpn or tv:fcos_resnet50_fpn, or the name of a file"),
        ("models:name@alias", "write models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/name", "write models:/NAME@ALIAS"),
        ("models:/name/latest", "write models:/NAME@ALIAS"),
        ("models:/a/b@c", "write models:/NAME@ALIAS"),
        ("models:/m-0123/../x@y", "write models:/NAME@ALIAS"),
    ],
)
def test_unusable_init_from_is_reported(name: str, expected: str, runs: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.init_from: .*{expected}"):
        find_init_from(name, [runs])


@pytest.mark.parametrize("name", ["models:/cells@champion", "models:/cells/12", "models:/a b@c-d.e"])
def test_registered_model_is_not_looked_up_in_preflight(name: str) -> None:
    assert find_init_from(name, []) == name


def test_run_that_resumes_does_not_need_its_initial_weights(small: Document, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    document = apply_override(apply_override(small, "model.init_from", "gone"), "model.backbone.weights", "gone.pth")
    job = validate_document(document)
    with pytest.raises(ConfigError) as caught:
        preflight(job, Places([tmp_path], [tmp_path]))
    assert [problem.field for problem in caught.value.problems] == ["model.backbone.weights", "model.init_from"]
    assert preflight(job, Places([tmp_path], [tmp_path]), is_new=False) == Inputs(tmp_path / "demo", "none")


def test_each_of_the_two_data_options_is_reported_with_its_meaning(small: Document, tmp_path: Path) -> None:
    job = validate_document(small)
    wrong = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(ConfigError) as caught:
        find_data(job, Places([wrong[0]], [], data_root=wrong[1], are_given=True, named_data_roots=[wrong[0]]))
    assert [problem.field for problem in caught.value.problems] == ["--data-root", "--data.root"]
    meaning = "--data-root names the folder that contains the document's data.root, --data.root the data itself"
    for path, problem in zip(wrong, caught.value.problems, strict=True):
        assert problem.message == f"got {str(path)!r}, which is not a folder; {meaning}"


def test_data_root_that_is_the_data_itself_is_recognized(small: Document, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigError, match="no folder 'demo' below") as caught:
        find_data(validate_document(small), Places([tmp_path], [], are_given=True, named_data_roots=[tmp_path]))
    assert f"--data-root: got {str(tmp_path)!r}, which is the data itself, it seems; write --data.root" in str(
        caught.value
    )
