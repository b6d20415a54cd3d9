"""Write the demo data: a learnable data set of real files for three tasks. Torch-free.

    images/{train,val,test}/000001.jpg        JPEG, every tenth a PNG; square, every third one with a shorter side
    annotations/instances_{train,val,test}.json
    annotations/image_labels.csv              file_name, split, scene

- Boxes in the style `shapes`: discs, squares, triangles and rings at three scales; some partly cover another one. Discs
  and squares form two classes each, by texture: plain, and patterned (stripes, dots or checks).
- Boxes in the style `grains`: small, elongated grains, beans and sticks at any angle, in crowds that cover each other
  partly. Grains form two classes by texture: plain or speckled, and striped.
- Every twelfth image has no object.
- `identity` of an annotation: its shape and its texture, sixteen combinations of shapes and nine of grains; it is
  missing if less than two thirds of the object are visible.
- `scene` of an image: the kind of its ground, and `crowded` from a number of objects on, five shapes or 25 grains.
- Some images are not labeled for some tasks: an eighth of train is missing in the COCO file, another eighth has an
  empty cell; in val and test only every tenth image has an empty cell.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import SPLITS, Split
from pipelines.data.synth import grains, shapes
from pipelines.data.synth.drawing import DrawnObject, Style, draw_objects

STYLES = {"shapes": shapes.STYLE, "grains": grains.STYLE}


def write_synthetic(
    root: Path,
    *,
    style: str = "shapes",
    seed: int = 0,
    num_train: int = 400,
    num_val: int = 60,
    num_test: int = 60,
    image_size: int = 160,
) -> None:
    """Write the data set to `root`; equal arguments give equal bytes (with the same version of Pillow).

    Args:
        root: a new or empty folder.
        style: a name in `STYLES`.
        seed: seed of all random choices.
        num_train: number of training images.
        num_val: number of validation images.
        num_test: number of test images.
        image_size: longer side in pixels, at least 128.

    Raises:
        ConfigError: `root` is not empty, the style is unknown, or a number is too small.
    """
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(FieldProblem(str(root), "is not empty; choose a new folder"))
    if image_size < 128 or min(num_train, num_val) < 1 or num_test < 0:
        given = f"image_size {image_size}, num_train {num_train}, num_val {num_val}, num_test {num_test}"
        raise ConfigError(FieldProblem("data synth", f"got {given}; the minimum is 128, 1, 1 and 0"))
    if style not in STYLES:
        raise ConfigError(FieldProblem("--style", f"got {style!r}; the styles are {', '.join(STYLES)}"))
    drawn_as = STYLES[style]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "split", "scene"])
    next_image_id, next_annotation_id = 1, 1
    for split, num_images in zip(SPLITS, (num_train, num_val, num_test), strict=True):
        if num_images == 0:
            continue
        (root / "images" / split).mkdir(parents=True)
        document: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": name} for number, name in enumerate(drawn_as.categories, start=1)],
        }
        for number in range(1, num_images + 1):
            image_id, next_image_id = next_image_id, next_image_id + 1
            rng = np.random.default_rng((seed, SPLITS.index(split), number))
            picture, ground, objects = _draw_image(rng, number, image_size, drawn_as)
            file_name = f"{split}/{number:06d}.{'png' if number % 10 == 0 else 'jpg'}"
            picture.save(root / "images" / file_name, quality=92)
            scene = [ground, *(["crowded"] if len(objects) >= drawn_as.crowded_from else [])]
            rows.writerow([file_name, split, " ".join(scene) if _has_scene(split, number) else ""])
            if split == "train" and number % 8 == 4:
                continue
            size = {"height": picture.height, "width": picture.width}
            document["images"].append({"id": image_id, "file_name": file_name, **size})
            for drawn in objects:
                document["annotations"].append(_annotation(drawn, next_annotation_id, image_id, drawn_as))
                next_annotation_id += 1
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    (root / "annotations" / "image_labels.csv").write_text(table.getvalue())


def _draw_image(
    rng: np.random.Generator, number: int, image_size: int, style: Style
) -> tuple[Image.Image, str, list[DrawnObject]]:
    shorter = 32 * round(0.8 * image_size / 32)
    size_hw = {1: (shorter, image_size), 2: (image_size, shorter)}.get(number % 6, (image_size, image_size))
    ground = str(rng.choice(style.grounds))
    pixels_HW3 = style.draw_ground(rng, ground, size_hw)
    num_objects = style.num_objects(rng, size_hw)
    objects = draw_objects(rng, pixels_HW3, 0 if number % 12 == 7 else num_objects, style)
    return Image.fromarray(np.clip(pixels_HW3, 0, 255).astype(np.uint8)), ground, objects


def _has_scene(split: Split, number: int) -> bool:
    return number % 8 != 6 if split == "train" else number % 10 != 5


def _annotation(drawn: DrawnObject, annotation_id: int, image_id: int, style: Style) -> dict[str, Any]:
    category = style.category_of(drawn.shape, drawn.texture)
    annotation: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": style.categories.index(category) + 1,
        "bbox": list(drawn.bbox_xywh),
        "area": drawn.area,
        "iscrowd": 0,
    }
    if drawn.visible >= 2 / 3:
        annotation["identity"] = f"{drawn.shape}-{drawn.texture}"
    return annotation
