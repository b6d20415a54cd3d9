"""Each invalid field of a document is reported with its value and valid alternatives."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.base.errors import ConfigError
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]

WRONG = [
    ("model.optimzer.lr", 1e-3, "model.optimzer: unknown key; did you mean 'optimizer'; known are aggregate,"),
    ("model.optimizer.lr", "fast", "model.optimizer.lr: got 'fast'; should be a valid number"),
    ("model.optimizer.lr", -1, "model.optimizer.lr: got -1; should be greater than 0"),
    ("model.neck.channels", 10**6, "model.neck.channels: got 1000000; should be less than or equal to 4096"),
    ("model.tasks.identity.dim", 10**9, "model.tasks.identity.dim: got 1000000000; should be less than or equal to"),
    (
        "model.tasks.shapes.candidates_per_level",
        2**63,
        "model.tasks.shapes.candidates_per_level: got 9223372036854775808; should be less than or equal to 100000",
    ),
    ("model.optimizer.lr", float("nan"), "model.optimizer.lr: got nan; should be a finite number"),
    ("model.tasks.shapes.head", "fcoss", "model.tasks.shapes.head: got 'fcoss'; did you mean 'fcos'; choose one of"),
    ("model.tasks.shapes", {}, "model.tasks.shapes.head: missing; add it"),
    ("model.tasks.shapes", None, "model.tasks.shapes: got None; should be a mapping"),
    ("model.tasks.scene.dropuot", 0.1, "model.tasks.scene.dropuot: unknown key; did you mean 'dropout'"),
    ("model.tasks.scene.class_weights", {"a": -1}, "model.tasks.scene.class_weights.a: got -1; should be greater"),
    ("model.tasks.shapes.levels", ["p5", "p3"], "model.tasks.shapes.levels: list each level once, finest first"),
    ("model.tasks.identity.boxes_from", "scene", "model.tasks.identity.boxes_from: got 'scene'; choose one of"),
    ("model.ema", True, "model.ema: got True; should be a mapping"),
    ("model.tasks", {"a.b": {"head": "fcos"}}, "model.tasks.a.b: got 'a.b'; use letters, digits, '_' and '-', at most"),
    ("name", "a b", "name: got 'a b'; use letters, digits, '.', '_' and '-', at most 64"),
    ("model.unfreeze", {4: "all"}, "model.unfreeze: got the epochs [4]; epochs count from 0, and 0 must be given"),
    ("model.unfreeze", {0: "none", 8: "all"}, "model.unfreeze: got the epochs [8]; trainer.max_epochs is 2"),
    (
        "model.transfer",
        "gradual",
        "model.transfer: got 'gradual', which needs at least 4 epochs; trainer.max",
    ),
    ("model.unfreeze_order", ["c5", "c5", "c3"], "model.unfreeze_order: got ['c5', 'c5', 'c3']; list each of c3, c4"),
    ("model.lr_scale", {"tasks": {"shape": 2}}, "model.lr_scale.tasks: got ['shape']; the tasks are ["),
    ("trainer.strategy", "fsdp", "trainer.strategy: got 'fsdp', which shards parameters: stages could not be frozen"),
    ("trainer.strategy", "deepspeed_stage_2", "trainer.strategy: got 'deepspeed_stage_2', which shards"),
    (
        "data.sources.shapes.sampler",
        {"kind": "pk", "task": "identity", "p": 3, "k": 2},
        "data.sources.shapes.batch_size: got 4; the pk sampler draws p * k = 6",
    ),
    (
        "data.sources.shapes.sampler",
        {"kind": "repeat_factor", "task": "identity"},
        "data.sources.shapes.sampler.task: got 'identity'; a repeat_factor sampler can use these ",
    ),
    ("model.unfreeze", {0: ["c6"]}, "model.unfreeze.0.0: got 'c6'; choose 'c3', 'c4' or 'c5'"),
    ("model.unfreeze", {"first": "all"}, "model.unfreeze.first: got 'first'; should be a valid integer"),
    ("data.sources.shapes.labels.0.format", "coko", "data.sources.shapes.labels.0.format: got 'coko'; did you mean"),
    ("data.sources.shapes.labels.0.tasks", ["shape"], "data.sources.shapes.labels.0.tasks: got 'shape'; model.tasks"),
    ("data.sources.shapes.images", "../x", "data.sources.shapes.images: got '../x'; write a path below the data root"),
    ("data.sources.shapes.labels", [], "data.sources.shapes.labels: got []; tuple should have at least 1 item"),
    ("data.image_size", 16, "data.image_size: got 16; should be greater than or equal to 32"),
    ("data.augment.scale_jitter", [2, 1], "data.augment.scale_jitter: got [2.0, 1.0]; write [low, high] with 0.1"),
    ("data.augment.hflp", 0.1, "data.augment.hflp: unknown key; did you mean 'hflip'; known are hflip, photometric,"),
    ("data.augment", 5, "data.augment: got 5; should be a mapping"),
    ("data.augment", "strnog", "data.augment: got 'strnog'; did you mean 'strong'; choose 'none', 'light', 'default'"),
    ("data.augment", [{"op": "hflp"}], "data.augment.0.op: got 'hflp'; did you mean 'hflip'; choose one of"),
    ("data.augment", [{"op": "hflip", "q": 1}], "data.augment.0.q: unknown key; known are op, p"),
    ("data.augment", [{"op": "hflip", "p": 3}], "data.augment.0.p: got 3; should be less than or equal to 1"),
    ("data.augment", [{"op": "affine", "degrees": 200}], "data.augment.0.degrees: got 200; should be less than or"),
    ("data.augment", [{"op": "affine", "fill": [0, 0, 300]}], "data.augment.0.fill.2: got 300; should be less than"),
    ("data.augment", [{"op": "blur", "sigma": [3, 1]}], "data.augment.0.sigma: got [3.0, 1.0]; write [low, high]"),
    ("data.augment", [{"op": "jpeg", "quality": [0, 9]}], "data.augment.0.quality: got [0, 9]; write [low, high]"),
    ("data.augment", [{"op": "random_erasing", "area": [0, 1]}], "data.augment.0.area: got [0.0, 1.0]; write [low"),
    ("trainer.max_epoch", 3, "trainer.max_epoch: unknown key; did you mean 'max_epochs'"),
    ("trainer.precision", "fp8", "trainer.precision: got 'fp8'; choose 'auto', '32-true', 'bf16-mixed' or '16-mixed'"),
    ("trainer.devices", 0, "trainer.devices: got 0; choose 'auto'; or got 0; should be greater than or equal to 1"),
    ("name", "a b", "name: got 'a b'; use letters, digits, '.', '_' and '-'"),
    ("model", None, "model: got None; should be a mapping"),
]


def problems_of(document: Document) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate_document(document)
    assert caught.value.exit_code == 78
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("field", "value", "expected"), WRONG, ids=[f"{field}={value}" for field, value, _ in WRONG])
def test_invalid_value_is_reported_with_its_field_and_a_remedy(
    field: str, value: Any, expected: str, small: Document
) -> None:
    problems = problems_of(apply_override(small, field, value))
    assert [problem for problem in problems if problem.startswith(expected)], problems
    fields = [problem.split(": ")[0] for problem in problems]
    assert all(name.replace(".", "").replace("_", "").isalnum() for name in fields), fields


def test_all_problems_are_reported_at_once(small: Document) -> None:
    document = apply_override(apply_override(small, "model.optimizer.lr", -1), "trainer.max_epochs", 0)
    document = apply_override(document, "data.imagesize", 3)
    del document["name"]
    fields = [problem.split(": ")[0] for problem in problems_of(document)]
    assert sorted(fields) == ["data.imagesize", "model.optimizer.lr", "name", "trainer.max_epochs"]


def test_invalid_entry_is_not_reported_as_missing(small: Document) -> None:
    (problem,) = problems_of(apply_override(small, "data.sources.shapes.labels.0.path", "/etc"))
    assert problem.startswith("data.sources.shapes.labels.0.path: got '/etc'")


def test_task_without_labels_is_reported(small: Document) -> None:
    problems = problems_of(apply_override(small, "model.tasks.extra", {"head": "multiclass"}))
    assert problems == ["model.tasks: no label layer lists ['extra']; add a layer to a source in data.sources"]


def test_unfreeze_keys_from_json_are_strings(small: Document) -> None:
    assert validate_document(apply_override(small, "model.unfreeze", {"0": ["c5"]})).model.unfreeze == {0: ("c5",)}


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.sampled_from(list(JobSpec.model_fields)), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("field", ["model", "model.tasks", "model.tasks.shapes", "model.unfreeze", "data.sources", ""])
def test_arbitrary_values_raise_no_other_error_than_config_error(field: str, small: Document) -> None:
    @given(junk)
    def check(value: Any) -> None:
        document = apply_override(small, field, value) if field else {"name": value, "data": value, 3: value}
        with contextlib.suppress(ConfigError):
            validate_document(document)

    check()


def test_only_the_first_of_very_many_problems_are_reported(small: Document) -> None:
    problems = problems_of({**small, **{f"key{number}": 1 for number in range(50_000)}})
    assert len(problems) == 101
    assert problems[-1] == "and 49900 more; fix these first"
