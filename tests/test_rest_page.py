"""The commands of docs/rest.md work, in the order of the page."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.api.app import create_app
from service.settings import Settings
from tests.rest_page_requests import VALUES, PageRequest, requests_of
from tests.rest_story import QUICK, picture, served, zipped_data

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rest.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
ROW = re.compile(r"^\| `([A-Z]+ /[^`]*)` \| (.*?) \|", flags=re.MULTILINE)
CHANGES = '{"trainer": {"max_epochs": 20}, "tracking": {"register_as": "shapes"}}'


def test_blocks_are_valid_shell_scripts() -> None:
    assert CHANGES in PAGE
    checked = subprocess.run(["bash", "-n"], input="\n".join(BLOCKS), text=True, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(root=tmp_path_factory.mktemp("root"), gpus=0)).openapi()


def test_every_request_of_the_page_fits_the_openapi_document(openapi: dict[str, Any]) -> None:
    requests = [request for block in BLOCKS[1:] for request in requests_of(block)]
    assert len(requests) == len(re.findall(r"\bapi ", "".join(BLOCKS[1:])))
    problems = [
        f"{request.method} {request.path}: {text}" for request in requests for text in _misfits(request, openapi)
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("api $URL/v1/nothing", "the API has no such request"),
        ("api -X PUT $URL/v1/jobs", "the API has no such request"),
        ("api '$URL/v1/jobs/1/logs?tail=x'", "tail: 'x' is not allowed"),
        ("api '$URL/v1/jobs/1/logs?tai=1'", "tai: unknown"),
        ("""api --json '{"prio": 1}' $URL/v1/jobs""", "'prio' was unexpected"),
        ("api -F images=@one.png $URL/v1/models/shapes/predict", "'image' is a required property"),
        ("""api -F 'options={"clases": []}' $URL/v1/models/shapes/batch-predictions""", "'clases' was unexpected"),
    ],
)
def test_request_that_does_not_fit_is_found(command: str, problem: str, openapi: dict[str, Any]) -> None:
    (request,) = requests_of(command)
    assert problem in " ".join(_misfits(request, openapi))


def _misfits(request: PageRequest, openapi: dict[str, Any]) -> Iterator[str]:
    """Yield what the OpenAPI document does not allow."""
    operation = _operation(request, openapi["paths"])
    if operation is None:
        yield "the API has no such request"
        return

    def errors(schema: dict[str, Any], value: Any) -> Iterator[str]:
        validator = Draft202012Validator({**schema, "components": openapi["components"]})
        return (error.message for error in validator.iter_errors(value))

    known = {parameter["name"]: parameter["schema"] for parameter in operation.get("parameters", ())}
    for name, text in request.query:
        if name not in known:
            yield f"{name}: unknown"
        elif all(any(errors(known[name], value)) for value in _values(text)):
            yield f"{name}: {text!r} is not allowed"
    content = operation.get("requestBody", {}).get("content", {})
    if request.json is not None:
        yield from errors(content["application/json"]["schema"], _json(request.json))
    elif request.form:
        schema = content["multipart/form-data"]["schema"]
        lists = {name for name, field in schema["properties"].items() if field["type"] == "array"}
        form = {name: [value] if name in lists else value for name, value in request.form}
        yield from errors({**schema, "additionalProperties": False}, form)
        if "options" in form:
            yield from errors({"$ref": "#/components/schemas/BatchPredictionRequest"}, json.loads(form["options"]))


def _operation(request: PageRequest, paths: dict[str, Any]) -> Any:
    """Return the operation of a request; None if the API has none."""
    for path in sorted(paths, key=lambda path: path.count("{")):
        pattern = re.sub(r"\{\w+\}", "[^/]+", path.replace("{path}", ".+"))
        if re.fullmatch(pattern, request.path) and (found := paths[path].get(request.method.lower())):
            return found
    return None


def _values(text: str) -> list[Any]:
    """Return what a value of a query may be: a text, several texts, or a number, for example."""
    try:
        return [text, [text], json.loads(text)]
    except ValueError:
        return [text, [text]]


def _json(text: str) -> Any:
    """Return a body; the files are those that the page writes by jq."""
    if text == "@job.json":
        return {"config": json.loads(CHANGES)}
    if text == "@finetune.json":
        (program,) = re.findall(r"jq -n .*'(\{.*\})' > finetune.json", PAGE)
        return json.loads(re.sub(r"(\w+): ", r'"\1": ', program).replace("$dataset", f'"{VALUES["dataset"]}"'))
    if text == "@sweep.json":
        (program,) = re.findall(r"jq -n .*'(\{.*\})' > sweep.json", PAGE)
        return json.loads(re.sub(r"(\w+): ", r'"\1": ', program).replace("$job[0].config", CHANGES))
    return json.loads(text)


def test_page_lists_every_request_of_the_api_with_its_scope(openapi: dict[str, Any]) -> None:
    expected = {
        f"{method.upper()} {path}": _scope(operation.get("security"))
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }
    assert dict(ROW.findall(PAGE)) == expected


def _scope(security: list[dict[str, list[str]]] | None) -> str:
    if security is None:
        return "no key"
    return ", ".join(f"`{scope}`" for scope in security[0]["ApiKey"]) or "any key"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_of_the_page_train_predict_and_clean_up(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    (client / "shapes.zip").write_bytes(zipped_data())
    for number, name in enumerate(("one.png", "two.png")):
        (client / name).write_bytes(picture(number))
    script = "set -euo pipefail\n" + "\n".join(BLOCKS).replace(CHANGES, json.dumps(QUICK))
    with served(tmp_path) as (url, key):
        environment = {**os.environ, "URL": url, "PYRAMIDION_API_KEY": key}
        command = ["bash", "-c", script]
        done = subprocess.run(command, cwd=client, env=environment, capture_output=True, text=True, timeout=800)
    log = (tmp_path / "serve.log").read_text()
    assert done.returncode == 0, "\n".join([done.stdout[-3000:], done.stderr[-3000:], log[-3000:]])
    assert '"succeeded"' in done.stdout
    files = {path.name for path in client.iterdir()}
    assert {"images.csv", "shapes.tar", "report.json", "thumbnail.jpg", "metrics.png", "drawn.png"} <= files
    assert "shapes.tar: OK" in done.stdout
    assert any(name.endswith(".coco.json") for name in files)
