"""Networks that runtimes compute."""

from pathlib import Path

import pytest
import torch

from heads.base import ClassPrediction
from pipelines.runtimes.variant import load_variant
from pipelines.spec.job import JobSpec
from tests.channel_means import write_channel_means


def test_graph_of_one_size_takes_smaller_images(scene_job: JobSpec, tmp_path: Path) -> None:
    """They are padded with zeros, which halves the means of an image with half the height."""
    write_channel_means(tmp_path / "export", scene_job, size_hw=(64, 96))
    network = load_variant(tmp_path / "export")
    (prediction,) = network.predict(torch.full((1, 3, 32, 96), 255, dtype=torch.uint8), [(32, 96)])["scene"]
    assert isinstance(prediction, ClassPrediction)
    assert prediction.scores.tolist() == pytest.approx([0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="got height x width 96 x 96; the graph takes at most 64 x 96"):
        network.predict(torch.zeros(1, 3, 96, 96, dtype=torch.uint8), [(96, 96)])


def test_tasks_are_selected(scene_job: JobSpec, tmp_path: Path) -> None:
    write_channel_means(tmp_path / "export", scene_job)
    network = load_variant(tmp_path / "export")
    images = torch.zeros(2, 3, 32, 64, dtype=torch.uint8)
    assert [len(found) for found in network.predict(images, [(32, 64), (30, 60)]).values()] == [2]
    assert network.predict(images, [(32, 64), (30, 60)], tasks=[]) == {}
