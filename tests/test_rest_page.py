"""The commands of docs/rest.md work, in the order of the page."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from service.api.app import create_app
from service.settings import Settings
from tests.rest_story import QUICK, picture, served, zipped_data

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rest.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
ROW = re.compile(r"^\| `([A-Z]+ /[^`]*)` \| (.*?) \|", flags=re.MULTILINE)
CHANGES = '{"trainer": {"max_epochs": 20}, "tracking": {"register_as": "shapes"}}'


def test_blocks_are_valid_shell_scripts() -> None:
    assert CHANGES in PAGE
    checked = subprocess.run(["bash", "-n"], input="\n".join(BLOCKS), text=True, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_page_lists_every_request_of_the_api_with_its_scope(tmp_path: Path) -> None:
    paths = create_app(Settings(root=tmp_path, gpus=0)).openapi()["paths"]
    expected = {
        f"{method.upper()} {path}": _scope(operation.get("security"))
        for path, methods in paths.items()
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
