"""Questions to MLflow's client. Torch-free; MLflow is imported when used."""

from collections.abc import Callable, Iterator
from typing import Any


def unless_absent(get: Callable[..., Any], *key: str) -> Any:
    """Return the result of `get`; None if nothing has that key, or if MLflow does not accept it as a name."""
    from mlflow.exceptions import MlflowException

    try:
        return get(*key)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def quoted(name: str) -> str:
    """Return a model's name as a string literal of MLflow's filters, which have no escapes."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def pages(search: Callable[..., Any], **options: Any) -> Iterator[Any]:
    """Yield the results of all pages of a search of MLflow's client."""
    token: str | None = None
    while True:
        page = search(**options, page_token=token)
        yield from page
        if not (token := page.token):
            return
