"""A trained detector looks at the object: most of the positive values of a map lie in the box of the detection."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from pipelines.explanations.explain import explain
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Predictor
from pipelines.run.saved_run import load_run
from pipelines.run_folder.layout import RunDir
from pipelines.spec.explanation import ExplanationRequest
from pipelines.spec.load import validate_document

pytestmark = pytest.mark.integration


def test_most_of_the_map_lies_in_the_box_for_a_trained_network(
    small_document: dict[str, Any], train: Callable[..., RunDir], demo_root: Path, tmp_path: Path
) -> None:
    model = small_document["model"]
    model["tasks"] = {"shapes": model["tasks"]["shapes"]}
    model["select"] = {"metric": "val/shapes/AP"}
    model["optimizer"]["lr"] = 4e-3
    del model["ema"]
    small_document["trainer"] |= {"max_epochs": 25, "accumulate_grad_batches": 1}
    small_document["data"]["sources"]["shapes"]["labels"] = small_document["data"]["sources"]["shapes"]["labels"][:1]
    small_document["data"]["sources"]["shapes"]["labels"][0]["tasks"] = ["shapes"]
    saved = load_run(train(small_document, tmp_path / "run"), validate_document(small_document))
    predictor = Predictor(TorchNetwork(saved.network(), "cpu"), saved.job, saved.categories)
    facts = [
        explain(predictor, predictor.prepare(path), ExplanationRequest()).facts
        for path in sorted((demo_root / "images" / "train").iterdir())[:8]
    ]
    shares = [(fact.mass_in_box or 0.0, fact.box_share or 0.0) for fact in facts]
    assert mean(mass for mass, _ in shares) > 0.5, shares
    assert mean(share for _, share in shares) < 0.3, shares
