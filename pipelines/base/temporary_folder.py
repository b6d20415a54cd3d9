"""The folder for temporary files, which libraries need as soon as they are imported. Torch-free."""

import os
import tempfile

from pipelines.base.errors import ConfigError, FieldProblem

VARIABLE = "TMPDIR"


def require_temporary_folder() -> None:
    """Raise ConfigError if no folder for temporary files can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        given = f"got {os.environ[VARIABLE]!r}" if VARIABLE in os.environ else "is not set"
        message = "and /tmp, /var/tmp and the working directory cannot be written; name a folder that can be written"
        raise ConfigError(FieldProblem(VARIABLE, f"{given}, {message}")) from None
