"""The script of docs/own_script.md trains and scores with a plain Lightning trainer."""

import math
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from pipelines.run.network import create_network
from pipelines.spec.load import write_yaml

PAGE = Path(__file__).parents[3] / "docs" / "own_script.md"


def test_documented_script_trains_and_scores(
    small: dict[str, Any], demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo").symlink_to(demo_root)
    (tmp_path / "job.yaml").write_text(write_yaml(small))
    monkeypatch.chdir(tmp_path)
    script: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block, str(PAGE), "exec"), script)
    assert script["trainer"].global_step == script["data"].num_train_batches() > 0
    scores = script["scoring"].scores
    assert scores.split == "test"
    assert scores.tasks.keys() == small["model"]["tasks"].keys()
    assert all(value is None or math.isfinite(value) for value in scores.summary.values())
    start = create_network(script["job"], script["index"]).state_dict()
    assert any(not value.equal(start[name]) for name, value in script["network"].state_dict().items())
