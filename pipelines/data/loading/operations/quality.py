"""Operations that lower the quality of images."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.quality import BlurSpec, JpegSpec


def blur(spec: BlurSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Blur with probability `p`."""
    is_drawn, sigma = rng.random() < spec.p, rng.uniform(*spec.sigma)
    return sample.repainted(lambda image: _blurred(image, sigma)) if is_drawn else sample


def _blurred(image: Tensor, sigma: float) -> Tensor:
    blurred: Tensor = F.gaussian_blur(image, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma, sigma])
    return blurred


def compress(spec: JpegSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Encode and decode as JPEG with probability `p`."""
    is_drawn, quality = rng.random() < spec.p, int(rng.integers(spec.quality[0], spec.quality[1] + 1))
    return sample.repainted(lambda image: _compressed(image, quality)) if is_drawn else sample


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Return the image as a JPEG of this quality shows it (chroma at half resolution, Pillow's default)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
