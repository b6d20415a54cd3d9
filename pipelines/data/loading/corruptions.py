"""Changes of images that a model meets in use, at three strengths, to measure how its scores fall.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
arXiv 1903.12261. Noise, JPEG and contrast have the paper's severities 1, 3 and 5. Deviations: images are corrupted at
their original size, so blur is a share of the longer side; brightness falls instead of rising, because dark images are
what cameras deliver; pixelation is a rescaling with interpolation, as by a lower resolution.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.base.records import ImageRecord
from pipelines.data.loading.color import apply_color, color_matrix
from pipelines.data.loading.operations.quality import blurred, compressed
from pipelines.data.loading.sample import Stream, random_numbers

Change = Callable[[Tensor, float, np.random.Generator], Tensor]
"""From an image (3, H, W) uint8, the value of a strength and a generator to an image of the same size."""

STRENGTHS = (1, 2, 3)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        change: the function that corrupts an image.
        values: its argument at each strength.
        setting: a text about the argument.
    """

    change: Change
    values: tuple[float, float, float]
    setting: str


@dataclass(frozen=True)
class CorruptedImages:
    """A corruption at one strength, for all images of a split.

    The noise of an image depends only on its source, its name and the strength, so it is the same in every process
    and run.
    """

    name: str
    strength: int

    @property
    def setting(self) -> str:
        """A text about the strength."""
        kind = CORRUPTIONS[self.name]
        return kind.setting.format(kind.values[self.strength - 1])

    def apply(self, image: Tensor, record: ImageRecord) -> Tensor:
        """Return the corrupted image, (3, H, W) uint8 of the same size; the image itself is not changed."""
        kind = CORRUPTIONS[self.name]
        digest = zlib.crc32(f"{record.source}/{record.file_name}".encode("utf-8", "surrogateescape"))
        rng = random_numbers(Stream.CORRUPTION, digest, self.strength)
        return kind.change(image, kind.values[self.strength - 1], rng)


def _blur(image: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    return blurred(image, share * max(image.shape[-2:]))


def _noise(image: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Add Gaussian noise to each value; the deviation is a share of the range."""
    height, width = image.shape[-2:]
    # Drawn in HWC order, the memory order of decoded images.
    noise = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(255 * deviation)
    values = np.rint(image.permute(1, 2, 0).numpy() + noise)
    return torch.from_numpy(np.clip(values, 0, 255).astype(np.uint8)).permute(2, 0, 1)


def _jpeg(image: Tensor, quality: float, rng: np.random.Generator) -> Tensor:
    return compressed(image, int(quality))


def _brightness(image: Tensor, factor: float, rng: np.random.Generator) -> Tensor:
    return apply_color(image, *color_matrix(factor, 1.0, 1.0, np.ones(3)))


def _contrast(image: Tensor, factor: float, rng: np.random.Generator) -> Tensor:
    return apply_color(image, *color_matrix(1.0, factor, 1.0, np.ones(3)))


def _rescale(image: Tensor, factor: float, rng: np.random.Generator) -> Tensor:
    """Reduce the image by a factor below 1 (antialiased), and enlarge it to its size again."""
    size_hw = list(image.shape[-2:])
    small: Tensor = F.resize(image, [max(1, round(side * factor)) for side in size_hw], antialias=True)
    large: Tensor = F.resize(small, size_hw, antialias=True)
    return large


CORRUPTIONS = {
    "blur": Corruption(_blur, (0.0025, 0.005, 0.01), "Gaussian with a standard deviation of {:.2%} of the longer side"),
    "noise": Corruption(_noise, (0.08, 0.18, 0.38), "Gaussian with a standard deviation of {:.0%} of the range"),
    "jpeg": Corruption(_jpeg, (25, 15, 7), "quality {:.0f}"),
    "brightness": Corruption(_brightness, (0.6, 0.4, 0.2), "{:.0%} of the brightness"),
    "contrast": Corruption(_contrast, (0.4, 0.2, 0.05), "{:.0%} of the contrast"),
    "rescale": Corruption(_rescale, (0.5, 0.25, 0.125), "reduced to {:.1%} of each side and enlarged again"),
}
"""All kinds, in the order of tables."""


def all_corruptions() -> list[CorruptedImages]:
    """Return every kind at every strength."""
    return [CorruptedImages(name, strength) for name in CORRUPTIONS for strength in STRENGTHS]
