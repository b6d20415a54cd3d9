"""Errors of a job have pointers into the request body."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import Settings

Document = dict[str, Any]


def errors_of(api: httpx2.Client, document: Document) -> dict[str, str]:
    """Submit an invalid document and return details by pointer."""
    answer = api.post("/v1/jobs", json={"config": document})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


def source(document: Document) -> Document:
    part: Document = document["data"]["sources"]["shapes"]
    return part


def layer(document: Document) -> Document:
    part: Document = source(document)["labels"][0]
    return part


def test_every_error_points_to_its_field(shared_api: httpx2.Client, document: Document) -> None:
    document["model"]["neck"]["chanels"] = 3
    document["model"]["layer_decay"] = 2
    document["data"]["sources"]["shapes"]["labels"][0]["format"] = "coca"
    del document["name"]
    errors = errors_of(shared_api, document)
    assert set(errors) == {
        "/config/name",
        "/config/model/neck/chanels",
        "/config/model/layer_decay",
        "/config/data/sources/shapes/labels/0/format",
    }
    assert "did you mean 'channels'" in errors["/config/model/neck/chanels"]
    assert "did you mean 'coco'" in errors["/config/data/sources/shapes/labels/0/format"]


def test_names_that_do_not_exist_on_the_server_are_rejected(shared_api: httpx2.Client, document: Document) -> None:
    document["model"]["backbone"] = {"name": "resnet5O", "weights": "missing.safetensors"}
    document["model"]["select"] = {"metric": "val/boxes/APP"}
    document["data"]["root"] = "nowhere"
    errors = errors_of(shared_api, document)
    assert set(errors) == {
        "/config/model/backbone/name",
        "/config/model/backbone/weights",
        "/config/model/select/metric",
        "/config/data/root",
    }
    assert "did you mean 'resnet50'" in errors["/config/model/backbone/name"]


@pytest.mark.parametrize(
    ("name", "field", "detail"),
    [
        ("mobileone_s0", "accept_license", "which is not a standard permissive license"),
        ("timm:resnet18.fb_ssl_yfcc100m_ft_in1k", "accept_license", "which forbids commercial use"),
        ("resnet14_thin", "weights", "has no default weights"),
    ],
)
def test_default_weights_that_are_unavailable_or_need_a_license_are_rejected(
    shared_api: httpx2.Client, document: Document, name: str, field: str, detail: str
) -> None:
    document["model"]["backbone"] = {"name": name}
    errors = errors_of(shared_api, document)
    assert set(errors) == {f"/config/model/backbone/{field}"}
    assert detail in errors[f"/config/model/backbone/{field}"]


def test_more_processes_than_cores_are_rejected(shared_api: httpx2.Client, document: Document) -> None:
    document["trainer"]["devices"] = 1_000_000
    errors = errors_of(shared_api, document)
    assert list(errors) == ["/config/trainer/devices"]
    assert errors["/config/trainer/devices"].startswith("got 1000000 processes, but this server has")


def test_budget_is_a_duration(shared_api: httpx2.Client, document: Document) -> None:
    document["trainer"] |= {"budget": "8m", "devices": 1_000_000}
    assert list(errors_of(shared_api, document)) == ["/config/trainer/devices"]
    document["trainer"] |= {"budget": "8 minutes", "devices": 1}
    assert errors_of(shared_api, document) == {
        "/config/trainer/budget": "got '8 minutes'; write a duration above 0, such as 90s, 8m, 2h or 1h30m"
    }


@pytest.mark.parametrize("path", ["/etc", "../shapes", "a/../../b", "a\\b"])
@pytest.mark.parametrize(
    ("pointer", "put"),
    [
        ("/config/data/sources/shapes/images", lambda document, path: source(document).update(images=path)),
        ("/config/data/sources/shapes/labels/0/path", lambda document, path: layer(document).update(path=path)),
    ],
)
def test_path_that_leaves_the_data_root_is_rejected(
    shared_api: httpx2.Client, document: Document, path: str, pointer: str, put: Callable[[Document, str], None]
) -> None:
    put(document, path)
    assert set(errors_of(shared_api, document)) == {pointer}


@pytest.mark.parametrize("root", ["/etc", "..", "shapes/../..", "", "a\1b", "x" * 5000, "y/" * 3000])
def test_data_root_outside_the_roots_is_rejected(shared_api: httpx2.Client, document: Document, root: str) -> None:
    document["data"]["root"] = root
    assert [pointer for pointer in errors_of(shared_api, document) if not "/config/data/root".startswith(pointer)] == []


@pytest.mark.parametrize("weights", ["/etc/passwd", "../w.safetensors", "x" * 5000, "a\1b"])
def test_weights_outside_the_weights_roots_are_rejected(
    shared_api: httpx2.Client, document: Document, weights: str
) -> None:
    document["model"]["backbone"]["weights"] = weights
    pointers = errors_of(shared_api, document)
    assert [pointer for pointer in pointers if not "/config/model/backbone/weights".startswith(pointer)] == []


def test_split_name_that_leaves_the_data_root_is_rejected(shared_api: httpx2.Client, document: Document) -> None:
    source(document)["splits"] = {"train": "../train", "val": "val"}
    errors = errors_of(shared_api, document)
    assert set(errors) == {"/config/data/sources/shapes/labels/0/path"}
    assert "without '..'" in errors["/config/data/sources/shapes/labels/0/path"]


@pytest.mark.parametrize("what", ["images", "labels", "root", "weights", "voc", "image_folder"])
def test_link_that_leaves_the_data_root_is_rejected(
    shared_api: httpx2.Client, document: Document, shared_settings: Settings, data_root: Path, tmp_path: Path, what: str
) -> None:
    name = f"link-{what}"
    link = {
        "root": data_root / name,
        "weights": shared_settings.weights_roots[0] / name,
    }.get(what, data_root / "shapes" / name)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    pointer = "/config/data/sources/shapes/labels/0/path"
    if what == "images":
        source(document)["images"] = name
        pointer = "/config/data/sources/shapes/images"
    elif what == "labels":
        layer(document)["path"] = f"{name}/{{split}}.json"
    elif what == "voc":
        source(document)["labels"] = [{"format": "voc", "image_sets": f"{name}/{{split}}.txt", "tasks": ["boxes"]}]
        pointer = "/config/data/sources/shapes/labels/0/image_sets"
    elif what == "image_folder":
        (data_root / "shapes" / "images" / name).unlink(missing_ok=True)
        (data_root / "shapes" / "images" / name).symlink_to(tmp_path)
        source(document)["labels"] = [{"format": "image_folder", "path": name, "tasks": ["boxes"]}]
    elif what == "root":
        document["data"]["root"] = name
        pointer = "/config/data/root"
    else:
        document["model"]["backbone"]["weights"] = f"{name}/w.safetensors"
        pointer = "/config/model/backbone/weights"
    errors = errors_of(shared_api, document)
    assert set(errors) == {pointer}
    assert "leads out" in errors[pointer]
    assert str(tmp_path) not in errors[pointer]


def test_link_to_itself_is_rejected(shared_api: httpx2.Client, document: Document, data_root: Path) -> None:
    loop = data_root / "loop"
    loop.unlink(missing_ok=True)
    loop.symlink_to(loop)
    document["data"]["root"] = "loop"
    assert [pointer for pointer in errors_of(shared_api, document) if not "/config/data/root".startswith(pointer)] == []


@pytest.mark.integration
def test_recipe_takes_data_and_a_budget_instead_of_a_document(shared_api: httpx2.Client, document: Document) -> None:
    body = {"recipe": "finetune", "data": {"root": document["data"]["root"]}, "budget": "3m", "priority": 2}
    answer = shared_api.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["name"], job["priority"]) == ("shapes", 2)
    assert job["config"] == {"name": "shapes", **{key: body[key] for key in ("recipe", "data", "budget")}}
    checked = shared_api.post("/v1/jobs?dry_run=true", json=body)
    assert checked.status_code == 200, checked.text
    assert checked.json()["config"]["model"]["tasks"]["objects"]["head"] == "fcos"


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        ({"recipe": "best"}, "/recipe", "finetune"),
        ({"budget": "soon"}, "/budget", "write a duration above 0"),
        ({"budget": None}, "/trainer/budget", "is missing; recipe:finetune chooses settings for a wall time"),
        ({"data": {"root": "nowhere"}}, "/data/root", "no folder 'nowhere'"),
        ({"data": {"root": "shapes", "image_sizes": 3}}, "/data/image_sizes", "unknown key"),
        ({"config": {"name": "x"}}, "/config", "got a document beside recipe; write only one of them"),
        ({"recipe": None, "data": {}, "budget": None}, "/config", "is missing; write a job document, or `recipe`"),
    ],
)
def test_errors_of_a_recipe_point_to_their_fields(
    shared_api: httpx2.Client, change: Document, pointer: str, detail: str
) -> None:
    answer = shared_api.post(
        "/v1/jobs", json={"recipe": "finetune", "data": {"root": "shapes"}, "budget": "3m", **change}
    )
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
