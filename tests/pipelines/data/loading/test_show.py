"""Pictures of samples."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.show import SHEET_CELL_PX, show_samples, show_sheet


def test_samples_are_written_as_pictures_of_both_splits(data_with: Callable[..., JobData], tmp_path: Path) -> None:
    data = data_with(augment={"scale_jitter": [0.5, 2.0], "photometric": 1.0})
    for split, count, written in (("train", 4, 4), ("val", 99, 5)):
        paths = show_samples(data, split, count, tmp_path / "shown" / split)
        assert len(set(paths)) == written
        for path in paths:
            with Image.open(path) as picture:
                assert max(picture.size) == 640


def test_epochs_show_other_draws(data_with: Callable[..., JobData], tmp_path: Path) -> None:
    data = data_with(augment=[{"op": "scale_jitter", "range": [0.5, 2.0]}])
    pictures = [show_samples(data, "train", 1, tmp_path / str(epoch), epoch)[0].read_bytes() for epoch in range(3)]
    assert len(set(pictures)) == 3


def test_sheet_has_a_column_for_each_operation(data_with: Callable[..., JobData], tmp_path: Path) -> None:
    data = data_with(augment=[{"op": "grayscale", "p": 0.0}, {"op": "hflip", "p": 0.0}])
    with Image.open(show_sheet(data, 2, tmp_path)) as sheet:
        step = (sheet.width + SHEET_CELL_PX // 40) / 4
        assert step == SHEET_CELL_PX + SHEET_CELL_PX // 40
        unchanged, gray, flipped, together = (
            sheet.crop((round(column * step), SHEET_CELL_PX // 12, round(column * step) + SHEET_CELL_PX, 150))
            for column in range(4)
        )
    assert unchanged.tobytes() == together.tobytes()
    assert len({unchanged.tobytes(), gray.tobytes(), flipped.tobytes()}) == 3
