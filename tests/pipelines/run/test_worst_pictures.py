"""Files about the worst images in the run folder of a finished run."""

import json

import numpy as np
from PIL import Image

from pipelines.run.worst_pictures import FALSE_POSITIVE_RGB, MISSED_RGB, NUM_SHOWN
from pipelines.run_folder.layout import RunDir
from pipelines.tasks.worst_images import WorstImages


def test_run_has_the_worst_images_of_its_detection_task_as_json_and_as_a_sheet(finished: RunDir) -> None:
    worst = WorstImages.model_validate_json(finished.worst("shapes").read_bytes())
    truth = json.loads((finished.ground_truth / "shapes.coco.json").read_bytes())
    assert worst.num_images == len(truth["images"])
    ids = {image["id"]: image["file_name"] for image in truth["images"]}
    assert {one.image_id: one.file_name for one in worst.images}.items() <= ids.items()
    assert {missed.annotation_id for one in worst.images for missed in one.missed} <= {
        row["id"] for row in truth["annotations"]
    }
    assert worst.images
    assert sorted(path.name for path in finished.worst_folder.iterdir()) == ["shapes.coco.json", "shapes.json"]
    with Image.open(finished.plots / "shapes.worst.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    shown = worst.images[:NUM_SHOWN]
    has_color = [(pixels == color).all(axis=1).any() for color in (FALSE_POSITIVE_RGB, MISSED_RGB)]
    assert has_color == [any(one.false_positives for one in shown), any(one.missed for one in shown)]


def test_labels_to_review_are_read_like_any_coco_file(finished: RunDir) -> None:
    worst = WorstImages.model_validate_json(finished.worst("shapes").read_bytes())
    file = json.loads(finished.suspicions("shapes").read_bytes())
    assert len(file["annotations"]) == worst.num_suspicions
    assert {row["image_id"] for row in file["annotations"]} == {image["id"] for image in file["images"]}
