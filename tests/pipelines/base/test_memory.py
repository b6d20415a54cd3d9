"""The memory of this process and of the machine."""

import numpy as np

from pipelines.base.memory import machine_bytes, peak_bytes

MIB = 2**20


def test_peak_contains_memory_that_is_free_again_and_is_below_that_of_the_machine() -> None:
    block = np.ones(256 * MIB, np.uint8)
    during = peak_bytes()
    del block
    assert 256 * MIB < during <= peak_bytes() < machine_bytes()
