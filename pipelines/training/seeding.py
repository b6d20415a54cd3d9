"""Randomness as a function: seeds from positions."""

import hashlib


def mixed_seed(*parts: int) -> int:
    """Return 63 bits that depend on every part and on their order, the same on every machine."""
    text = ",".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
