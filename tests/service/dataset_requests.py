"""Requests about data sets for tests."""

from pathlib import Path
from typing import Any

import httpx2

from tests.service.waiting import wait_until

View = dict[str, Any]


def upload(api: httpx2.Client, content: bytes, name: str = "shapes", **fields: str) -> httpx2.Response:
    return api.post("/v1/datasets", data={"name": name, **fields}, files={"archive": ("any.zip", content)})


def checked(api: httpx2.Client, answer: httpx2.Response) -> View:
    """Wait for the end of the check of a version that was just added, and return the version."""
    assert answer.status_code in (200, 202), answer.text

    def view() -> View | None:
        found: View = api.get(answer.headers["location"]).json()
        return found if found["status"] != "checking" else None

    view_: View = wait_until(view, "the end of the check")
    return view_


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
