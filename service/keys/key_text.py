"""The text of a key: `pyr_`, the id that identifies it in lists and logs, and 256 random bits.

Only its SHA-256 is stored. A slow hash or a salt protects secrets that can be guessed; nobody can guess 256 random
bits, and a fast hash keeps each request fast.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

PREFIX = "pyr_"
_FORM = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}", re.ASCII)


@dataclass(frozen=True)
class NewSecret:
    """A new key, whose text is shown once."""

    key_id: str
    text: str

    @property
    def secret_hash(self) -> str:
        """The hash to store."""
        return hash_of(self.text)


def new_secret() -> NewSecret:
    """Return a new random key."""
    key_id = secrets.token_hex(6)
    return NewSecret(key_id, f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}")


def id_of(text: str) -> str | None:
    """Return the id in the text of a key; None if the text does not have the form of a key."""
    form = _FORM.fullmatch(text)
    return form.group(1) if form else None


def shown_prefix(key_id: str) -> str:
    """Return the first characters of a key, which identify it and are not secret."""
    return f"{PREFIX}{key_id}"


def hash_of(text: str) -> str:
    """Return the hash of a key's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_text_of(secret_hash: str, text: str) -> bool:
    """Return True if the hash belongs to the text; the time it takes does not depend on where they differ."""
    return hmac.compare_digest(secret_hash, hash_of(text))
