"""Operations that lower the quality of images."""

import io

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.data.loading.pictures import as_picture, as_tensor
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.quality import BlurSpec, JpegSpec


def blur(spec: BlurSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Blur with probability `p`; 3 ms at 320x240 on one core.

    Three box filters approximate the Gaussian (at most 2 of 255 levels off for a sigma of 1.5), so that the time does
    not depend on sigma.
    """
    is_drawn, sigma = rng.random() < spec.p, rng.uniform(*spec.sigma)
    return sample.repainted(lambda image: blurred(image, sigma)) if is_drawn else sample


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return the image (3, H, W) uint8 after a Gaussian blur, with sigma in pixels."""
    return as_tensor(as_picture(image).filter(ImageFilter.GaussianBlur(sigma)))


def compress(spec: JpegSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Encode and decode as JPEG with probability `p`; 1.3 ms at 320x240 on one core."""
    is_drawn, quality = rng.random() < spec.p, int(rng.integers(spec.quality[0], spec.quality[1] + 1))
    return sample.repainted(lambda image: compressed(image, quality)) if is_drawn else sample


def compressed(image: Tensor, quality: int) -> Tensor:
    """Return the image as a JPEG of this quality shows it (chroma at half resolution, Pillow's default)."""
    file = io.BytesIO()
    as_picture(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return as_tensor(decoded)


def noisy(image: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Return the image (3, H, W) uint8 with Gaussian noise in each value; the deviation is a share of the range."""
    height, width = image.shape[-2:]
    # Drawn in HWC order, the memory order of decoded images.
    noise = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(255 * deviation)
    values = np.rint(image.permute(1, 2, 0).numpy() + noise)
    return torch.from_numpy(np.clip(values, 0, 255).astype(np.uint8)).permute(2, 0, 1)


def rescaled(image: Tensor, factor: float) -> Tensor:
    """Return the image (3, H, W) uint8 reduced by a factor below 1 (antialiased) and enlarged to its size again."""
    size_hw = list(image.shape[-2:])
    small: Tensor = F.resize(image, [max(1, round(side * factor)) for side in size_hw], antialias=True)
    large: Tensor = F.resize(small, size_hw, antialias=True)
    return large
