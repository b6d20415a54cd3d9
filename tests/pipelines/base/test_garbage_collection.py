"""The pause of the garbage collector."""

import gc

import pytest

from pipelines.base.garbage_collection import no_garbage_collection


def test_collector_is_off_inside_and_on_again_after_the_outer_pause() -> None:
    assert gc.isenabled()
    with no_garbage_collection():
        with no_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(ImportError), no_garbage_collection():
        raise ImportError
    assert gc.isenabled()
