"""The gate of an export: how far metrics may fall, and how exact float32 has to be."""

import pytest

from pipelines.export.gate import decide
from pipelines.spec.export_settings import MAX_DROP
from pipelines.spec.exported_variant import MetricPair, Parity
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec

EXACT = Parity(num_images=6, scores=1e-6, boxes_px=1e-4, embeddings=1e-6, missing_detections=0.0)


@pytest.fixture
def model(export_job: JobSpec) -> ModelSpec:
    return export_job.model


def metrics(shapes: tuple[float | None, float | None]) -> dict[str, MetricPair]:
    return {
        "val/shapes/AP": MetricPair(torch=shapes[0], variant=shapes[1]),
        "val/scene/mAP": MetricPair(torch=0.7, variant=0.7),
    }


def test_export_that_falls_by_less_than_allowed_passes(model: ModelSpec) -> None:
    assert decide(model, metrics((0.5, 0.496)), EXACT, 0.005).is_passed


def test_export_that_is_better_than_torch_passes(model: ModelSpec) -> None:
    assert decide(model, metrics((0.5, 0.6)), None, 0.0).is_passed


def test_reason_says_by_how_much_a_metric_falls(model: ModelSpec) -> None:
    gate = decide(model, metrics((0.5, 0.48)), None, 0.01)
    expected = "val/shapes/AP falls by 0.0200, from 0.5000 to 0.4800; at most 0.01 is allowed (--max-drop)"
    assert gate.reasons == (expected,)


def test_metric_that_only_the_export_lacks_is_a_reason(model: ModelSpec) -> None:
    assert decide(model, metrics((0.5, None)), None, 0.01).reasons == (
        "val/shapes/AP is undefined, and 0.5000 in torch",
    )


def test_metric_that_torch_lacks_too_is_no_reason(model: ModelSpec) -> None:
    assert decide(model, metrics((None, None)), None, 0.01).is_passed


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("scores", 2e-4, "scores differ from those of torch by up to 0.0002; at most 0.0001 is allowed in float32"),
        ("boxes_px", 0.06, "boxes differ from those of torch by up to 0.06 px"),
        ("embeddings", 1e-3, "embeddings differ"),
        ("missing_detections", 0.02, "2.00% of the detections of torch are missing; at most 0.1% may be missing"),
    ],
)
def test_float32_that_is_not_exact_is_refused(model: ModelSpec, field: str, value: float, text: str) -> None:
    gate = decide(model, metrics((0.5, 0.5)), EXACT.model_copy(update={field: value}), 0.005)
    assert len(gate.reasons) == 1
    assert text in gate.reasons[0]


def test_what_a_model_does_not_predict_is_not_compared(model: ModelSpec) -> None:
    parity = EXACT.model_copy(update={"boxes_px": None, "embeddings": None})
    assert decide(model, metrics((0.5, 0.5)), parity, 0.005).is_passed


def test_integers_may_fall_further_than_floats() -> None:
    assert MAX_DROP == {"fp32": 0.005, "bf16": 0.005, "int8": 0.01}
