import re
import subprocess
import sys

import pytest

from heads import create
from heads.catalog import HEADS, LOSSES


def test_catalog_lists_exactly_the_heads_that_can_be_created():
    assert set(HEADS) == set(create._CONSTRUCTORS)


def test_losses_of_heads_and_losses_are_the_same():
    named = {loss for head in HEADS.values() for loss in head.losses}
    assert named == set(LOSSES)
    for head in HEADS.values():
        assert all(head.kind in LOSSES[loss].kinds for loss in head.losses)


def test_papers_are_arxiv_ids():
    papers = [entry.paper for entry in (*HEADS.values(), *LOSSES.values()) if entry.paper]
    assert papers
    assert all(re.fullmatch(r"\d{4}\.\d{5}", paper) for paper in papers)


def test_catalog_is_free_of_torch():
    code = "import sys, heads.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_kind_is_told_with_the_nearest(level_specs):
    with pytest.raises(ValueError, match=r"'retinanett' is not in the catalog; did you mean 'retinanet'\?"):
        create.create_head("retinanett", level_specs=level_specs, num_classes=2)


@pytest.mark.parametrize("kind", HEADS)
def test_unknown_option_is_a_type_error(level_specs, kind):
    with pytest.raises(TypeError, match="no_such_option"):
        create.create_head(kind, level_specs=level_specs, num_classes=2, no_such_option=1)


@pytest.mark.parametrize("kind", HEADS)
def test_head_without_classes_is_refused(level_specs, kind):
    with pytest.raises(ValueError, match="num_classes: got 0"):
        create.create_head(kind, level_specs=level_specs, num_classes=0)


def test_unknown_level_and_unequal_channels_are_refused(level_specs):
    with pytest.raises(ValueError, match=r"levels: got \['p9'\]"):
        create.create_head("fcos", level_specs=level_specs, num_classes=1, levels=("p3", "p9"))
    with pytest.raises(ValueError, match="channels differ"):
        create.create_head("retinanet", level_specs=level_specs, num_classes=1, levels=("c3", "c4"))
