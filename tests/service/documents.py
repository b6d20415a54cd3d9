"""Documents of jobs for tests of the service."""

from typing import Any


def detection_document() -> dict[str, Any]:
    """Return a valid document for the data of `write_dataset` in the folder `shapes` of a data root."""
    labels = [{"format": "coco", "path": "{split}.json", "tasks": ["boxes"]}]
    return {
        "name": "shapes",
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "model": {
            "backbone": {"name": "resnet14_thin", "weights": "none"},
            "neck": {"channels": 32},
            "tasks": {"boxes": {"head": "fcos", "num_convs": 1}},
        },
        "data": {
            "root": "shapes",
            "sources": {"shapes": {"images": "images", "labels": labels, "splits": {"train": "train", "val": "val"}}},
            "image_size": 64,
            "num_workers": 0,
        },
        "tracking": None,
    }
