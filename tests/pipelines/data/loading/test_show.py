"""Pictures of samples."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.show import show_samples


def test_samples_are_written_as_pictures_of_both_splits(data_with: Callable[..., JobData], tmp_path: Path) -> None:
    data = data_with(augment={"scale_jitter": [0.5, 2.0], "photometric": 1.0})
    for split, count, written in (("train", 4, 4), ("val", 99, 5)):
        paths = show_samples(data, split, count, tmp_path / "shown" / split)
        assert len(set(paths)) == written
        for path in paths:
            with Image.open(path) as picture:
                assert max(picture.size) == 640
