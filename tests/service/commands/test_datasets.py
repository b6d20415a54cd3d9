"""`pyramidion datasets`: uploads, lists, pages and deletion, by real commands and checks."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.client.archives import packed
from service.commands.registry import PYRAMIDION
from tests.service.dataset_archives import zip_of


@pytest.fixture
def run(served: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in this process and return its result."""
    monkeypatch.setenv("PYRAMIDION_URL", served.url)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(PYRAMIDION, ["datasets", *arguments], standalone_mode=False)

    return run


def test_folder_is_uploaded_listed_shown_and_deleted(run: Any, demo_root: Path) -> None:
    uploaded = run("upload", "demo", str(demo_root))
    assert uploaded.return_value == 0, uploaded.output
    (reference,) = {word for word in uploaded.output.split() if word.startswith("demo@") and ":" not in word}
    assert "17 train, 6 val, 6 test" in uploaded.output
    assert reference in run("list", "--name", "demo").output
    again = run("upload", "demo", str(demo_root), "--json")
    assert json.loads(again.stdout)["reference"] == reference
    assert f"dataset: {reference}" in run("show", "demo", "--document").output
    assert "name no version" not in run("delete", reference).output
    assert run("list").output.strip() == "no data sets"


def test_invalid_archive_ends_with_the_exit_code_of_invalid_data(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"readme.txt": b"no images"}))
    done = run("upload", "bad", str(tmp_path / "a.zip"))
    assert (done.return_value, "has no images" in done.output) == (78, True)
    done = run("delete", "bad")
    assert (done.return_value, "names no version" in done.output) == (78, True)


def test_equal_folders_are_packed_into_equal_archives(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / "1.png").write_bytes(b"1")
        with packed(tmp_path / name) as archive:
            contents.append(archive.read_bytes())
    assert contents[0] == contents[1]
