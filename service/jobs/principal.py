"""The identity on whose behalf a use case runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Attributes:
        name: name of the user or of the key.
        tenant: the owner of the jobs that the caller sees.
    """

    name: str
    tenant: str


LOCAL_USER = Principal("local", "local")
"""Everyone who can reach the loopback interface: without keys, the service has one user with all permissions."""
