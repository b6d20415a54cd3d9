"""Lists that the service returns page by page."""

from collections.abc import Callable
from typing import Any, TypeVar

from service.rest.schemas import Page

MAX_ROWS = 100
"""Number of rows that are requested at once."""

PageT = TypeVar("PageT", bound=Page)
RowT = TypeVar("RowT")


def read_pages(
    read_page: Callable[[dict[str, Any]], PageT], rows_of: Callable[[PageT], list[RowT]], limit: int
) -> list[RowT]:
    """Return the first rows of a list.

    Args:
        read_page: returns the page for the query parameters `limit` and `cursor`.
        rows_of: returns the rows of a page.
        limit: maximum number of rows.
    """
    found: list[RowT] = []
    cursor: dict[str, Any] = {}
    while len(found) < limit:
        page = read_page({"limit": min(MAX_ROWS, limit - len(found)), **cursor})
        found += rows_of(page)
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
    return found
