"""Links that lead out of a root, and the option that follows them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.base.links import LINKS_VARIABLE, set_link_policy, walk
from pipelines.base.paths import below


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
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
