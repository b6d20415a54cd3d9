"""The fine-tuning benchmark compares runs under equal conditions."""

import json
from pathlib import Path

import pytest

from pipelines.spec.load import load_job
from pipelines.spec.transfer import frozen_parts
from tests.bench import finetuning, joint


@pytest.mark.parametrize("strategy", finetuning.STRATEGIES)
@pytest.mark.parametrize(("share", "num_images"), [("25 %", 52), ("100 %", 205)])
def test_every_strategy_has_the_same_steps_and_freezes_the_backbone_as_specified(
    strategy: str, share: str, num_images: int, tmp_path: Path
) -> None:
    annotations = tmp_path / finetuning.folder_of(share) / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "instances_train.json").write_text(json.dumps({"images": [{}] * num_images}))
    run = finetuning.finetuning(tmp_path, strategy, share, 1, 312)
    overrides = [tuple(option.removeprefix("--").split("=", 1)) for option in run.options]
    job = load_job([overrides[0][1]], [(name, value) for name, value in overrides[1:]])
    assert job.trainer.max_epochs * -(-num_images // 4) == 312
    assert (job.model.init_from is None) == (strategy == "scratch")
    assert bool(frozen_parts(job.model, 0)) == (strategy in ("freeze", "gradual", "lp-ft"))
    assert bool(frozen_parts(job.model, job.trainer.max_epochs - 1)) == (strategy == "freeze")


def test_quarter_has_every_fourth_image_with_all_its_objects() -> None:
    document = {
        "categories": [{"id": 1}],
        "images": [{"id": 10 - number, "file_name": f"{number}.jpg"} for number in range(10)],
        "annotations": [{"id": number, "image_id": 10 - number // 2} for number in range(20)],
    }
    kept = finetuning.thinned(document, 4)
    assert [image["file_name"] for image in kept["images"]] == ["0.jpg", "4.jpg", "8.jpg"]
    assert [annotation["id"] for annotation in kept["annotations"]] == [0, 1, 8, 9, 16, 17]
    assert kept["categories"] == document["categories"]


@pytest.mark.parametrize("start", joint.STARTS)
@pytest.mark.parametrize("model", joint.MODELS)
def test_single_models_are_the_recipe_with_one_task(start: str, model: str) -> None:
    _, changes = joint.STARTS[start]
    job = joint.validate_document(joint.document_of(joint.MODELS[model], changes))
    whole = joint.validate_document(joint.document_of(joint.MODELS["joint"], changes))
    assert tuple(job.model.tasks) == joint.MODELS[model]
    for name in set(job.model.tasks) - {"boxes"}:
        assert job.model.tasks[name].model_copy(update={"boxes_from": None}) == whole.model.tasks[name]
    assert job.trainer == whole.trainer
    assert job.model.optimizer == whole.model.optimizer
