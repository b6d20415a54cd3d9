"""The catalogs, and the schema of the document."""

import httpx2

from backbones.catalog.rows import CATALOG
from backbones.spec.design_presets import PRESETS
from backbones.spec.surgery import OPERATIONS
from heads.catalog import HEADS, LOSSES
from pipelines.spec.job import JobSpec


def test_every_catalog_row_is_listed(shared_api: httpx2.Client) -> None:
    backbones = shared_api.get("/v1/catalog/backbones").json()
    assert [row["name"] for row in backbones["backbones"]] == list(CATALOG)
    assert backbones["others"]["timm"] > 1000
    resnet = next(row for row in backbones["backbones"] if row["name"] == "resnet50")
    assert resnet == {
        "name": "resnet50",
        "family": "ResNet",
        "year": 2015,
        "paper": "1512.03385",
        "library": "timm",
        "id": "resnet50.a1_in1k",
        "has_default_weights": True,
        "weights_license": "apache-2.0",
        "weights_licence": "apache-2.0",
        "accept_license_needed": False,
        "surgery": {},
        "takes": [operation for operation in OPERATIONS if operation in CATALOG["resnet50"].takes],
        "is_equivariant": CATALOG["resnet50"].is_equivariant,
        "facts": {
            "parameters": 23_508_032,
            "channels": [512, 1024, 2048],
            "macs": 4_087_136_256,
            "trains_on_cpu": True,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    assert list(backbones["presets"]) == list(PRESETS)
    assert backbones["presets"]["resnet50"] == resnet["facts"]
    heads = shared_api.get("/v1/catalog/heads").json()["heads"]
    losses = shared_api.get("/v1/catalog/losses").json()["losses"]
    assert [row["name"] for row in heads] == list(HEADS)
    assert [row["name"] for row in losses] == list(LOSSES)
    assert {loss for row in heads for loss in row["losses"]} <= {row["name"] for row in losses}


def test_schema_is_that_of_the_validated_document(shared_api: httpx2.Client) -> None:
    schema = shared_api.get("/v1/catalog/schema").json()
    assert schema == JobSpec.model_json_schema()
    assert schema["$defs"]["OptimizerSpec"]["properties"]["lr"]["default"] == 1e-3
