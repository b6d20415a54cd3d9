"""The steps before and after an exported graph, with NumPy and Pillow alone.

The source of these functions is copied into `inference.py` of exports by `pipelines.export.example`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {}
"""The function that makes the answer of each task; `inference.py` has those of the model."""


def read_image(path: str | Path, model: dict[str, Any]) -> Image.Image:
    """Return the image of a file in RGB, upright if the model expects that, and on white where it is transparent.

    Args:
        path: of the file.
        model: the content of model.json.

    Raises:
        ValueError: the image has more than 8 bits per channel.
    """
    with Image.open(path) as file:
        if file.mode[0] in "IF":
            raise ValueError(f"{path}: has more than 8 bits per channel; convert it to 8 bits")
        image: Image.Image = ImageOps.exif_transpose(file) if model["exif"] == "apply" else file
        if "A" in image.getbands() or "transparency" in image.info:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("RGB")


def scaled_size_hw(image: Image.Image, model: dict[str, Any]) -> tuple[int, int]:
    """Return the height and the width of an image that is scaled to fit into the model's `image_size`."""
    limits, size = np.broadcast_to(model["image_size"], 2), np.array([image.height, image.width])
    height, width = np.minimum(size * (limits / size).min() + 0.5, limits).astype(int).clip(1)
    return int(height), int(width)


def prepare(image: Image.Image, model: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the inputs of the graph for one image.

    `images` (1, 3, H, W) uint8 is the scaled image, padded with 0 at the right and the bottom; `sizes_hw` (1, 2) int64
    is its size before padding.
    """
    height, width = scaled_size_hw(image, model)
    step = model["multiple_of"]
    sizes = model["sizes_hw"] or [(-(-height // step) * step, -(-width // step) * step)]
    padded_height, padded_width = next(size for size in sizes if size[0] >= height and size[1] >= width)
    images = np.zeros((1, 3, padded_height, padded_width), dtype=np.uint8)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    images[0, :, :height, :width] = pixels.transpose(2, 0, 1)
    inputs = {"images": images, "sizes_hw": np.array([[height, width]])}
    return {given["name"]: inputs[given["name"]] for given in model["inputs"]}


def answers(outputs: dict[str, np.ndarray], image: Image.Image, model: dict[str, Any]) -> dict[str, Any]:
    """Return the answers of all tasks, with boxes in pixels of `image`.

    Args:
        outputs: of the graph for `prepare(image, model)`, by name.
        image: as `read_image` returns it.
        model: the content of model.json.
    """
    height, width = scaled_size_hw(image, model)
    scale, limits = [image.width / width, image.height / height] * 2, [image.width, image.height] * 2
    in_pixels = {name: (outputs[name] * scale).clip(0, limits) for name in outputs if name.endswith(".boxes")}
    return {task: answer(task, {**outputs, **in_pixels}, model) for task, answer in ANSWERS.items()}
