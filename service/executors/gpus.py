"""The GPUs of this host, as their driver lists them, without torch."""

import os
import subprocess

_QUERY = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
_TIMEOUT_S = 30.0


def gpu_uuids() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that this process may use; empty without a working driver.

    CUDA_VISIBLE_DEVICES filters them as it does for CUDA: by indices, UUIDs or prefixes of UUIDs, up to the first
    invalid entry. Indices follow the driver's order, which is CUDA's order if all GPUs are of one model.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = None if visible is None else [entry.strip() for entry in visible.split(",")]
    # The driver's list of GPUs does not contain slices of a GPU.
    if entries and all(entry.startswith("MIG-") for entry in entries):
        return tuple(entries)
    present = _present()
    if entries is None:
        return present
    chosen: list[str] = []
    for entry in entries:
        uuid = _named(entry, present)
        if uuid is None or uuid in chosen:
            break
        chosen.append(uuid)
    return tuple(chosen)


def _present() -> tuple[str, ...]:
    try:
        done = subprocess.run(_QUERY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = [line.strip() for line in done.stdout.splitlines()]
    return tuple(line for line in lines if line.startswith("GPU-")) if done.returncode == 0 else ()


def _named(entry: str, present: tuple[str, ...]) -> str | None:
    if entry.isdecimal():
        return present[int(entry)] if int(entry) < len(present) else None
    hits = [uuid for uuid in present if entry and uuid.startswith(entry)]
    return hits[0] if len(hits) == 1 else None
