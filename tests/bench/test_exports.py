"""The benchmark of exports trains one network per backbone, and its cells say how far an export is from torch."""

import pytest

from pipelines.spec.load import validate_document
from tests.bench.exports import BACKBONES, TASKS, document_of, figure, speed


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_backbone_has_a_valid_document_with_all_heads(backbone: str) -> None:
    job = validate_document(document_of(backbone, epochs=3))
    assert (job.model.backbone.name, job.trainer.max_epochs) == (backbone, 3)
    assert set(job.model.tasks) == set(TASKS)


def test_cells_compare_an_export_with_torch() -> None:
    assert figure(0.5, 0.5) == "0.5000"
    assert figure(0.48, 0.5) == "0.4800 (-0.0200)"
    assert figure(None, 0.5) == "undefined"
    assert speed(torch_s=0.1, runtime_s=0.05) == "50.0 (2.0)"
