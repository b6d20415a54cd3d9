"""The place in an epoch at which a run continues with another number of processes."""

import pytest

from pipelines.training.lightning_internals import batches_done, move_to_batch
from pipelines.training.rank_changes import batches_of


@pytest.mark.parametrize(
    ("joint", "num_ranks", "num_batches", "accumulated", "done"),
    [
        (8, 1, 12, 2, 8),  # 4 batches of 2 processes are 8 of one
        (8, 4, 3, 1, 2),
        (7, 2, 6, 1, 3),  # a batch is drawn again
        (10, 2, 6, 4, 4),  # an optimizer step starts anew
        (3, 8, 2, 1, 0),
        (9, 1, 5, 1, 4),  # limit_train_batches: one batch remains
    ],
)
def test_epoch_continues_at_the_last_step_that_is_complete(
    joint: int, num_ranks: int, num_batches: int, accumulated: int, done: int
) -> None:
    assert batches_of(joint, num_ranks, num_batches, accumulated) == done


def test_moved_checkpoint_keeps_what_is_in_progress() -> None:
    current = {"ready": 4, "started": 4, "processed": 4, "completed": 3}
    loops = {
        "epoch_loop.batch_progress": {"current": current, "total": {"ready": 9}},
        "state_dict": {"combined_loader": [{"epoch": 1, "batches_done": 4}]},
    }
    checkpoint = {"loops": {"fit_loop": loops}}
    move_to_batch(checkpoint, 8)
    assert current == {"ready": 8, "started": 8, "processed": 8, "completed": 7}
    assert (batches_done(checkpoint), loops["state_dict"]) == (
        8,
        {"combined_loader": [{"epoch": 1, "batches_done": 8}]},
    )
