"""`recipe:finetune` completes a short document for the data in a folder."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError, DataError
from pipelines.command_line.chosen_documents import complete
from pipelines.data.drafting.finetune import choose_document
from pipelines.data.drafting.machine import Machine
from pipelines.data.drafting.short_document import stand_in
from pipelines.preflight import Places
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override, load_job, read_document, validate_document, write_yaml
from tests.pipelines.data.drafting.exports import SPLITS, text, write_coco, write_image_folder

Document = dict[str, Any]
MACHINE = Machine(
    has_gpu=False, num_cores=2, memory_bytes=2**34, networks=frozenset({"tf_efficientnet_lite0"}), cpu_macs_per_s=4e9
)
SHORT: Document = {"recipe": "finetune", "budget": "3m", "data": {"root": "cells"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_coco(tmp_path / "cells")
    return tmp_path / "cells"


def test_document_is_complete_and_every_choice_has_a_reason(folder: Path) -> None:
    found = choose_document(SHORT, folder, MACHINE)
    job = validate_document(found.document)
    assert (job.name, job.data.root, job.trainer.budget) == ("cells", "cells", "3m")
    assert (job.data.image_size, job.model.backbone.name) == (64, "tf_efficientnet_lite0")
    assert job.model.tasks["objects"].head == "fcos"
    first, *lines = found.explanation.splitlines()
    assert first.startswith("format coco: ")
    assert first.endswith("12 train, 6 val, 4 test images")
    assert all(line.endswith(")") and " (" in line for line in lines)
    assert "data.sources.images.batch_size: 2" in found.explanation


def test_classes_of_images_are_recognized_too(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "cells")
    document = choose_document(SHORT, tmp_path / "cells", MACHINE).document
    assert document["model"]["tasks"] == {"classes": {"head": "multiclass"}}
    validate_document(document)


def test_given_fields_take_precedence_and_are_not_explained(folder: Path) -> None:
    short = apply_override(apply_override(SHORT, "model.optimizer.lr", 0.5), "model.backbone", {"name": "resnet18"})
    short = apply_override(short, "model.tasks.objects.head", "retinanet")
    found = choose_document(short, folder, MACHINE)
    job = validate_document(found.document)
    assert (job.model.optimizer.lr, job.model.backbone.name) == (0.5, "resnet18")
    assert (job.model.optimizer.weight_decay, job.model.tasks["objects"].head) == (0.05, "retinanet")
    assert all(name not in found.explanation for name in ("optimizer.lr", "backbone", "objects.head:"))
    assert "objects.anchor_scale" in found.explanation


def test_levels_follow_the_given_size_of_images(folder: Path) -> None:
    scales = []
    for size in (64, [480, 640]):
        document = choose_document(apply_override(SHORT, "data.image_size", size), folder, MACHINE).document
        assert document["data"]["image_size"] == size
        scales.append(document["model"]["tasks"]["objects"]["range_scale"])
    assert scales == [4, 8]


def test_given_sources_are_used_as_they_are(folder: Path) -> None:
    drafted = choose_document(SHORT, folder, MACHINE).document
    sources = {"mine": {**drafted["data"]["sources"]["images"], "batch_size": 3}}
    document = choose_document(apply_override(SHORT, "data.sources", sources), folder, MACHINE).document
    assert document["data"]["sources"] == sources


def test_settings_of_the_recognized_source_can_be_given(folder: Path) -> None:
    short = apply_override(SHORT, "data.sources.images.batch_size", 16)
    validate_document(stand_in(short))
    found = choose_document(short, folder, MACHINE)
    source = validate_document(found.document).data.sources["images"]
    assert (source.batch_size, source.images) == (16, "{split}")
    assert found.document["model"]["optimizer"]["lr"] == 2e-3
    assert "batch_size: " not in found.explanation


def test_settings_of_another_source_without_files_are_refused(folder: Path) -> None:
    short = apply_override(SHORT, "data.sources.photos.batch_size", 16)
    for read in (stand_in, lambda given: choose_document(given, folder, MACHINE)):
        with pytest.raises(ConfigError, match=r"data.sources: got 'photos' without images .* is the source 'images'"):
            read(short)


def test_sources_with_several_tasks_are_refused(folder: Path) -> None:
    layers = [{"format": "coco", "path": "a.json", "tasks": [task]} for task in ("a", "b")]
    short = apply_override(SHORT, "data.sources", {"mine": {"images": "x", "labels": layers}})
    with pytest.raises(ConfigError, match=r"data.sources: have labels of the tasks a, b, .* one task"):
        choose_document(short, folder, MACHINE)


def test_data_without_val_split_or_labels_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "a", {"train": SPLITS["train"]})
    with pytest.raises(DataError, match="has no val split, which training needs; `pyramidion init --split"):
        choose_document(SHORT, tmp_path / "a", MACHINE)
    text(tmp_path / "b" / "notes.txt", "nothing")
    with pytest.raises(DataError, match="has no images"):
        choose_document(SHORT, tmp_path / "b", MACHINE)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("recipe", "fine", "recipe: got 'fine'; the recipe that chooses is 'finetune'"),
        ("budget", "soon", "trainer.budget: got 'soon'; write a duration"),
        ("budget", None, "trainer.budget: is missing; recipe:finetune chooses settings for a wall time, such as 8m"),
        ("model.optimizer.rate", 3, "model.optimizer.rate: unknown key"),
        ("model.backbone.name", 3, "model.backbone.name"),
        ("data", {}, "data.root"),
        ("data", 3, "data: "),
    ],
)
def test_invalid_given_parts_are_reported_before_the_data_is_read(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_document(stand_in(apply_override(SHORT, field, value)))
    assert expected in str(caught.value)


def test_other_commands_say_that_they_need_the_complete_document() -> None:
    with pytest.raises(ConfigError, match="recipe: got 'finetune', a recipe that chooses settings for `fit`"):
        load_job(["recipe:finetune"])


def test_run_that_has_trained_keeps_its_document(folder: Path, tmp_path: Path) -> None:
    run_dir, places = RunDir.of(tmp_path / "run"), Places([], [], data_root=folder)
    short = read_document("recipe:finetune") | {"budget": "3m"}
    found = complete(short, places, run_dir, lambda: False)
    chosen = apply_override(found.document, "model.optimizer.lr", 0.25)
    text(run_dir.job_yaml, write_yaml(chosen, found.explanation))
    assert read_document(str(run_dir.job_yaml)) == chosen
    assert complete(short, places, run_dir, lambda: False).document == found.document
    assert complete(short, places, run_dir, lambda: False, is_stored=True).document == chosen
    text(run_dir.last_checkpoint, "")
    resumed = complete(apply_override(short, "name", "other"), places, run_dir, lambda: False)
    assert (resumed.document, resumed.explanation) == ({**chosen, "name": "other"}, "")


def test_document_without_a_recipe_stays_as_it_is() -> None:
    assert complete({"name": "x"}, Places([], []), None, lambda: False).document == {"name": "x"}
