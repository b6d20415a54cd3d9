"""Random samples of anchors and proposals."""

import torch

from heads.losses import IGNORED, NEGATIVE
from heads.sampling import random_priorities, sample

LABELS = torch.tensor([NEGATIVE, 2, NEGATIVE, IGNORED, 0, NEGATIVE, 1, 0, NEGATIVE, IGNORED])
ORDER = torch.tensor([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])


def test_sample_has_the_first_positives_in_order_and_negatives_up_to_the_number():
    rows = sample(LABELS, ORDER, num_samples=5, positive_share=0.4)
    assert rows.tolist() == [2, 5, 6, 7, 8]


def test_negatives_take_the_places_of_missing_positives():
    rows = sample(LABELS.where(LABELS < 0, NEGATIVE), ORDER, num_samples=6, positive_share=0.5)
    assert rows.tolist() == [2, 4, 5, 6, 7, 8]


def test_few_rows_are_all_sampled_except_ignored_ones():
    rows = sample(LABELS, ORDER, num_samples=100, positive_share=0.5)
    assert rows.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert sample(LABELS[:0], ORDER[:0], num_samples=100, positive_share=0.5).tolist() == []


def test_priorities_depend_on_the_seed_alone_and_do_not_touch_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    cpu = torch.device("cpu")
    first = random_priorities(50, 3, cpu)
    torch.rand(7)
    assert torch.equal(random_priorities(50, 3, cpu), first)
    assert not torch.equal(random_priorities(50, 4, cpu), first)
    torch.manual_seed(0)
    random_priorities(50, 3, cpu)
    assert torch.equal(torch.get_rng_state(), state)
