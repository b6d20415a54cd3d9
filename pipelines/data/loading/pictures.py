"""Images as tensors (3, H, W) uint8 and as pictures of Pillow."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def as_picture(image: Tensor) -> Image.Image:
    """Return a picture with the same pixels."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def as_tensor(picture: Image.Image) -> Tensor:
    """Return an RGB picture as a tensor in HWC memory, for which the resize kernel is twice as fast."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
