"""Links that lead out of a root, and the option that follows them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.base.errors import DataError
from pipelines.base.links import LINKS_VARIABLE, set_link_policy, walk
from pipelines.base.paths import below


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    # Commands that other tests run in this process set the policy, too.
    set_link_policy(follow=False, environ={LINKS_VARIABLE: "refuse"})
    yield
    set_link_policy(follow=False, environ={LINKS_VARIABLE: "refuse"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/a.png").touch()
    (tmp_path / "elsewhere/deep/loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/images").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "root"


def test_link_that_leads_out_is_refused_by_default(root: Path) -> None:
    with pytest.raises(ValueError, match=r"'images' is a link that leads out of .*/root$"):
        below(root, "images")
    assert list(walk(root)) == [(str(root), ["images"], [])]


def test_refusal_of_a_command_names_the_option(root: Path) -> None:
    set_link_policy(follow=False, environ={})
    with pytest.raises(ValueError, match=r"; add --follow-links to the command to follow it$"):
        below(root, "images")


def test_option_follows_links_and_enters_each_folder_once(root: Path) -> None:
    set_link_policy(follow=True, environ={})
    assert below(root, "images/deep/a.png") == root.parent.resolve() / "elsewhere/deep/a.png"
    assert [files for _, _, files in walk(root)] == [[], [], ["a.png"]]


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "images/../../x"])
def test_option_does_not_allow_paths_that_leave_the_root_without_a_link(root: Path, path: str) -> None:
    set_link_policy(follow=True, environ={})
    with pytest.raises(ValueError, match="write"):
        below(root, path)


def test_processes_of_the_service_never_follow_links(root: Path) -> None:
    set_link_policy(follow=True, environ={LINKS_VARIABLE: "refuse"})
    with pytest.raises(ValueError, match=r"leads out of .*/root$"):
        below(root, "images")


def test_folder_that_cannot_be_listed_is_an_error_unless_it_does_not_matter(tmp_path: Path) -> None:
    depth = 0
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        # Each folder is made relative to its parent, because the whole path is longer than the system accepts.
        while depth * 201 < 4200:
            os.mkdir("f" * 200, dir_fd=here)
            inner = os.open("f" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, depth = inner, depth + 1
        with pytest.raises(DataError, match="cannot be listed"):
            list(walk(tmp_path))
        assert list(walk(tmp_path, lists_all=False))
    finally:
        os.close(here)
