"""The order of an attempt for its node: everything but the command, in variables, which no other user can read."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_VARIABLES = "PYRAMIDION_NODE_"
_ORDER = f"{_VARIABLES}ORDER"
_AWS = "AWS_"

STORAGE_FAILED = 74
"""Exit code of an attempt whose files could not be fetched or stored (EX_IOERR of sysexits.h)."""

KEPT = ".kept"
"""Name of a file in a scratch folder whose content is not stored completely."""


@dataclass(frozen=True)
class NodeOrder:
    """One attempt for a node.

    Attributes:
        storage: the address of the storage of the service's root.
        timeout_s: of a request to it.
        push_timeout_s: maximum time that the start and the end wait for it.
        job_id: of the job.
        attempt: number of the attempt.
        grace_s: time for the command to exit after SIGTERM.
        run_folder: the scratch folder, in place of the run folder.
    """

    storage: str
    timeout_s: float
    push_timeout_s: float
    job_id: str
    attempt: int
    grace_s: float
    run_folder: str

    @property
    def folder(self) -> Path:
        return Path(self.run_folder)

    def to_json(self) -> str:
        """Return it as text, which contains no secret."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the order of a text of `to_json`."""
        return cls(**json.loads(text))

    def variables(self) -> dict[str, str]:
        """Return the variables of the node's process, which also needs those of the storage."""
        return {_ORDER: self.to_json()}

    @classmethod
    def take(cls) -> tuple[Self, dict[str, str]]:
        """Return the order of this process, and the environment of the command, without the storage's credentials.

        Afterward the environment of this process has the variables by which clients of the storage are configured.
        """
        order = cls.parse(os.environ.pop(_ORDER))
        command = {name: text for name, text in os.environ.items() if not name.startswith(_VARIABLES)}
        for name in [name for name in os.environ if name.startswith(_VARIABLES)]:
            os.environ[name.removeprefix(_VARIABLES)] = os.environ.pop(name)
        return order, command


def storage_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the process of a node reaches the storage, with their credentials.

    They are those of an environment that start with `AWS_`, unless variables that start with `PYRAMIDION_NODE_AWS_`
    replace them: a node deletes nothing, and needs fewer permissions.
    """
    of_all = {_VARIABLES + name: text for name, text in environ.items() if name.startswith(_AWS)}
    return of_all | {name: text for name, text in environ.items() if name.startswith(_VARIABLES + _AWS)}
