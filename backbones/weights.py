"""Loading of weights from local files, with a report of the tensors that fitted."""

import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_NESTED_KEYS = ("state_dict", "model")
_SHOWN_KEYS = 5
COUNTER = "num_batches_tracked"
"""A buffer of every BatchNorm. It has the same shape in every network, so it does not show that a file fits."""
_ZIP = b"PK\x03\x04"
"""The first bytes of files written by `torch.save`; files of torch before 1.6 lack them and are read too."""
_REAL_NUMBERS = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64}
    | {torch.bool}
)


@dataclass(frozen=True)
class WeightsReport:
    """The tensors of a file that did and did not fit a network, by the names of the network's library.

    Attributes:
        loaded: tensors taken from the file.
        missing: tensors in the network but not in the file; they keep their random values.
        unexpected: tensors in the file but not in the network, such as a classifier, which a backbone lacks.
        mis_shaped: tensors in both with different shapes; they keep their random values.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mis_shaped: tuple[str, ...]

    def __str__(self) -> str:
        """Return a one-line summary with the first few keys that did not fit."""
        wanted = len(self.loaded) + len(self.missing) + len(self.mis_shaped)
        parts = [f"{len(self.loaded)} of {wanted} tensors loaded"]
        for what, keys in (
            ("missing in the file", self.missing),
            ("of another shape in the file", self.mis_shaped),
            ("unexpected in the file", self.unexpected),
        ):
            if keys:
                parts.append(f"{len(keys)} {what}: {_some(keys)}")
        return "; ".join(parts)


def load_weights_file(
    network: nn.Module, path: Path, rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
) -> WeightsReport:
    """Load the tensors of a file that fit into `network`.

    Args:
        network: a network with the parameter names of its library.
        path: a safetensors file, or a state dict written by `torch.save`, plain or below the key `state_dict` or
            `model`.
        rename: function that converts the file's state dict to the names of `network`.

    Raises:
        ValueError: the file cannot be read as weights, contains values that are not finite, or nothing in it fits.
    """
    state = read_tensors(path)
    report = load_matching(network, rename(state))
    if all(key.endswith(COUNTER) for key in report.loaded):
        raise ValueError(
            f"weights {str(path)!r}: nothing in this file fits the network; the file has keys such as "
            f"{_some(tuple(state))}, the network has {_some(tuple(network.state_dict()))}; use a file of exactly this "
            f"architecture, saved with the parameter names of its library"
        )
    return report


def load_matching(network: nn.Module, state: Mapping[str, Tensor]) -> WeightsReport:
    """Copy the tensors of `state` into `network` whose names and shapes match.

    BatchNorm's `num_batches_tracked` is reported neither as missing nor as unexpected: old files and frozen norms lack
    it, and it has no effect.
    """
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    network.load_state_dict(fitting, strict=False)
    return WeightsReport(
        loaded=tuple(fitting),
        missing=tuple(key for key in own if key not in state and not key.endswith(COUNTER)),
        unexpected=tuple(key for key in state if key not in own and not key.endswith(COUNTER)),
        mis_shaped=tuple(key for key in state if key in own and key not in fitting),
    )


def load_plain(path: Path) -> Any:
    """Return the content of a `torch.save` file that contains only plain types and tensors; no code in it is run.

    Raises:
        ValueError: the file cannot be read; the message says why in a few words.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_zip = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except Exception as error:  # torch's unpickler raises a dozen types on bytes of other formats
        if not is_zip:
            raise ValueError("not a file of torch.save") from error
        is_complete = isinstance(error, pickle.UnpicklingError)
        raise ValueError("more than plain types and tensors" if is_complete else "damaged or truncated") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a safetensors file, or of a file of `torch.save` (see `load_weights_file`).

    Raises:
        ValueError: the file cannot be read as weights, or contains values that are not finite.
    """
    if not path.is_file():
        raise ValueError(f"weights {str(path)!r}: file not found; write 'none', 'default' or the path of a file")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_plain(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"weights {str(path)!r}: this is neither a safetensors file nor a plain state dict of tensors ({error}); "
            f"save it again with torch.save(network.state_dict(), path)"
        ) from error
    tensors = _tensors_of(content)
    if not tensors:
        raise ValueError(f"weights {str(path)!r}: the file does not contain a state dict; save one with torch.save")
    if odd := tuple(key for key, tensor in tensors.items() if not _is_plain(tensor)):
        raise ValueError(
            f"weights {str(path)!r}: {_some(odd)} are sparse, quantized, complex, packed or on the meta device; save "
            "dense tensors of real numbers"
        )
    if expanded := tuple(key for key, tensor in tensors.items() if is_expanded(tensor)):
        raise ValueError(
            f"weights {str(path)!r}: {_some(expanded)} have more elements than are stored, as after expand(); save "
            "tensor.contiguous()"
        )
    if wrong := tuple(key for key, tensor in tensors.items() if not tensor.isfinite().all()):
        raise ValueError(
            f"weights {str(path)!r}: {_some(wrong)} hold values that are not finite; use a file saved before its "
            "training diverged"
        )
    return tensors


def _tensors_of(content: Any) -> dict[str, Tensor]:
    """Return the tensors of the innermost state dict by name; it is at most two mappings deep."""
    for _ in _NESTED_KEYS:
        if isinstance(content, Mapping):
            nested = (content.get(key) for key in _NESTED_KEYS)
            content = next((inner for inner in nested if isinstance(inner, Mapping)), content)
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def is_expanded(tensor: Tensor) -> bool:
    """Return whether a tensor has more elements than are stored: a small file could fill the memory with them."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _is_plain(tensor: Tensor) -> bool:
    is_dense = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta)
    return is_dense and tensor.dtype in _REAL_NUMBERS


def _some(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return ", ".join(keys[:_SHOWN_KEYS]) + more
