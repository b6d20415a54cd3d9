"""Data sets are found below the data roots."""

import os
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.roots import data_roots_from_environment, find_root


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    for name in ("one/cells", "two/birds", "two/deep/fish", "outside"):
        (tmp_path / name).mkdir(parents=True)
    return [tmp_path / "one", tmp_path / "two", tmp_path / "absent"]


def test_data_set_is_found_below_the_one_root_that_has_it(roots: list[Path]) -> None:
    assert find_root("cells", roots) == (roots[0] / "cells").resolve()
    assert find_root("deep/fish", roots) == (roots[1] / "deep" / "fish").resolve()


def test_data_set_below_two_roots_is_rejected(roots: list[Path]) -> None:
    (roots[1] / "cells").mkdir()
    with pytest.raises(ConfigError, match=r"data.root: 'cells' exists twice, .*one/cells and .*two/cells"):
        find_root("cells", roots)


def test_root_that_is_given_twice_counts_once(roots: list[Path]) -> None:
    assert find_root("cells", [roots[0], roots[0]]) == (roots[0] / "cells").resolve()


def test_error_names_the_roots_and_the_remedy(roots: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"no folder 'fish' below .*one, .*two, .*absent; name .* --data-root or"):
        find_root("fish", roots)


@pytest.mark.parametrize("name", ["../outside", "cells/../../outside", "/etc", "", "cells\0"])
def test_name_that_leaves_the_roots_is_rejected(roots: list[Path], name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: "):
        find_root(name, roots)


def test_link_that_leaves_the_root_is_rejected_and_a_link_inside_is_followed(roots: list[Path]) -> None:
    (roots[0] / "out").symlink_to(roots[0].parent / "outside")
    (roots[0] / "in").symlink_to("cells")
    with pytest.raises(ConfigError, match="is a link that leads out"):
        find_root("out", roots)
    assert find_root("in", roots) == (roots[0] / "cells").resolve()


def test_data_roots_come_from_the_environment_or_are_the_working_directory() -> None:
    named = {"PYRAMIDION_DATA_ROOTS": f"a{os.pathsep}{os.pathsep}b"}
    assert data_roots_from_environment(named) == [Path("a"), Path("b")]
    assert data_roots_from_environment({}) == [Path()]
