"""Documents as parameters of MLflow."""

import pytest

from pipelines.spec.job import JobSpec
from pipelines.tracking.mlflow_names import distinct_keys, flatten, mlflow_key

DOCUMENT = {
    "name": "shapes",
    "model": {
        "backbone": {"name": "timm:resnet10t", "weights": "none"},
        "tasks": {"kind": {"head": "multiclass"}},
        "optimizer": {"lr": 0.002},
    },
    "data": {
        "root": "shapes",
        "image_size": [64, 96],
        "sources": {
            "a": {
                "images": "images",
                "labels": [
                    {
                        "format": "csv",
                        "path": "labels.csv",
                        "column": "kind",
                        "tasks": ["kind"],
                        "classes": {"red (old)": "red", "gone": None},
                    }
                ],
            }
        },
    },
}


def test_document_is_flattened_to_parameters() -> None:
    params = flatten(JobSpec.model_validate(DOCUMENT))
    assert params["model.backbone.name"] == "timm:resnet10t"
    assert params["data.image_size"] == "[64, 96]"
    assert params["data.sources.a.labels.0.classes.red _old_"] == "red"
    assert params["data.sources.a.labels.0.classes.gone"] == "null"
    assert params["model.optimizer.lr"] == "0.002"


def test_names_and_values_respect_the_limits_of_mlflow() -> None:
    long = DOCUMENT | {"data": DOCUMENT["data"] | {"root": "e" * 7000}}
    text = flatten(JobSpec.model_validate(long))["data.root"]
    assert len(text) == 6000
    assert text.endswith("...")
    assert len(mlflow_key("k" * 300)) == 250
    assert mlflow_key("val/cells/AP/red cell (old)") == "val/cells/AP/red cell _old_"


@pytest.mark.parametrize(
    "value", ["..", ".", "", "/srv//cameras/1", "site/", "./left", "left/../right", "a\nb", "x" * 9999]
)
def test_mlflow_accepts_every_name(value: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(mlflow_key(f"test/cells/slices/camera/{value}/AP"))


def test_different_names_have_different_keys() -> None:
    names = ["old (red)", "old [red]", "blue", "x" * 300 + "1", "x" * 300 + "2"]
    keys = distinct_keys(names)
    assert list(keys) == names
    assert len(set(keys.values())) == len(names)
    assert keys["blue"] == "blue"
    assert keys["old (red)"] == distinct_keys(reversed(names))["old (red)"]
    assert all(mlflow_key(key) == key for key in keys.values())
