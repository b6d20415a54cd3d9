"""The time that this process waits for MLflow, short because clients wait with it. Torch-free."""

import os

SHORT_WAITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""MLflow settings for variables that the user has not set."""


def shorten_waits() -> None:
    """Make requests to MLflow fail soon; MLflow reads these variables for each request."""
    for name, value in SHORT_WAITS.items():
        os.environ.setdefault(name, value)


def environment_without_short_waits() -> dict[str, str]:
    """Return the environment for child processes, which download models and so need the longer waits."""
    return {name: value for name, value in os.environ.items() if SHORT_WAITS.get(name) != value}
