"""Seeds are functions of positions."""

from itertools import product

from pipelines.training.seeding import mixed_seed


def test_seed_is_the_same_on_every_machine() -> None:
    # BLAKE2b with 8 bytes over "0,1,2", without the lowest bit.
    assert mixed_seed(0, 1, 2) == 4727102316523150270


def test_different_positions_and_orders_have_different_seeds() -> None:
    positions = list(product(range(6), repeat=4))
    assert len({mixed_seed(*position) for position in positions}) == len(positions)
    assert mixed_seed(1, 12) != mixed_seed(11, 2)
