"""Registration of a run's model: what decides whether it becomes the champion, and where that is shown."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pipelines.run.attempt import Attempt
from pipelines.run.val_scores import ValScores
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import AttemptDir, ExportedModelDir, RunDir
from pipelines.spec.load import apply_override, resolved, validate_document, write_yaml
from pipelines.tracking.mlflow_store import Store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry

Document = dict[str, Any]
MakeAttempt = Callable[[Document], Attempt]
CHAMPION = ModelVersion("m", 1, None, {}, 0.0)


def test_better_run_is_registered_but_not_promoted_while_the_interval_contains_zero(
    small: Document,
    finished: RunDir,
    demo_root: Path,
    command: Callable[..., int],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    tracking = {"experiment": "tests", "register_as": "gated", "promote_if": "surely_better"}
    job = validate_document({**small, "tracking": tracking})
    for number, name in enumerate(("first", "second"), start=1):
        run_dir = RunDir.of(shutil.copytree(finished.path, tmp_path / name))
        run_dir.config_yaml.write_text(write_yaml(resolved(job)))
        result = json.loads(run_dir.result.read_text())
        metric = result["select"]["metric"]
        # The second run claims to be better; its weights and so its predictions are the same.
        result["val"]["summary"][metric] = number / 4
        run_dir.result.write_text(json.dumps(result))
        assert command("fit", "--config", run_dir.config_yaml, "--data.root", demo_root, "--run-dir", run_dir.path) == 0
        shown = json.loads(run_dir.registration.read_text())["promotion"]
        version = Registry(store).version("gated", number)
        assert version is not None
        assert version.promotion is not None
        assert version.promotion.model_dump() == shown
    assert (shown["is_promoted"], shown["reason"], shown["champion"]) == (False, "unsure", 1)
    assert (shown["value"], shown["champion_value"], shown["low"], shown["high"]) == (0.5, 0.25, 0.0, 0.0)
    assert (Registry(store).aliases("gated") or {}) == {"candidate": 2, "champion": 1}
    output = AttemptDir(run_dir.attempt(run_dir.next_attempt() - 1)).log.read_text()
    assert f"registered as models:/gated/2 (candidate): {metric} 0.5, that of champion version 1 0.25, 95 % " in output
    assert "interval of the difference +0 to +0; the interval contains zero" in output


def test_interval_to_a_champion_with_other_weights_contains_the_difference(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    attempt = attempt_at(apply_override(small, "model.select", {"metric": "val/scene/mAP"}))
    shutil.copytree(finished.model, attempt.run_dir.model)
    other = ExportedModelDir(shutil.copytree(finished.model, tmp_path / "other"))
    weights = load_file(other.weights)
    save_file({name: -x if name.startswith("heads.scene.") else x for name, x in weights.items()}, other.weights)
    scores = ValScores(attempt, lambda version, folder: other.path)
    own = json.loads(finished.result.read_text())["val"]["summary"]["val/scene/mAP"]
    champion = scores.metric(CHAMPION)
    interval = scores.interval(CHAMPION)
    assert champion is not None
    assert interval is not None
    assert interval[0] <= own - champion <= interval[1]
    assert interval[0] < interval[1]


def test_champion_without_finite_predictions_is_a_warning(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    attempt = attempt_at(apply_override(small, "model.select", {"metric": "val/scene/mAP"}))
    other = ExportedModelDir(shutil.copytree(finished.model, tmp_path / "other"))
    weights = load_file(other.weights)
    save_file(
        {name: x * math.nan if name.startswith("heads.scene.") else x for name, x in weights.items()}, other.weights
    )
    assert ValScores(attempt, lambda version, folder: other.path).metric(CHAMPION) is None
    (warning,) = read_events(attempt.run_dir.events)
    assert "models:/m/1 cannot be scored on the val data of this run, and the champion stays" in warning.data["message"]
    assert "is not finite" in warning.data["message"]


def test_metric_without_an_interval_is_a_warning(small: Document, finished: RunDir, attempt_at: MakeAttempt) -> None:
    document = apply_override(small, "model.tasks.identity.gallery", "train")
    document = apply_override(document, "model.select", {"metric": "val/identity/recall_at_1"})
    attempt = attempt_at(document)
    shutil.copytree(finished.model, attempt.run_dir.model)
    assert ValScores(attempt, lambda version, folder: finished.model).interval(CHAMPION) is None
    (warning,) = read_events(attempt.run_dir.events)
    assert "val/identity/recall_at_1 has no interval, so that models:/m/1 stays champion" in warning.data["message"]
