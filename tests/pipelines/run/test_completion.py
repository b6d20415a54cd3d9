"""What a document leaves to a measurement; clocks that advance by a fixed time per reading take the place of time."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.index import build_index
from pipelines.preflight import Inputs
from pipelines.run.completion import Completion
from pipelines.run.fit import FitWorkflow
from pipelines.run.folder_setup import choose_run_dir, write_documents
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.open_fields import with_stored_values
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import BudgetUse, RunMeasurement, RunPrecision
from pipelines.spec.load import apply_override, load_job, validate_document

Document = dict[str, Any]
PRECISION = RunPrecision(name="32-true")


def ticking(seconds: float) -> Callable[[], float]:
    """Return a clock that advances by `seconds` whenever it is read."""
    ticks = itertools.count()
    return lambda: seconds * next(ticks)


@pytest.fixture
def document(small_document: Document) -> Document:
    """A document with a fast network, in which stages are frozen at first."""
    small_document["trainer"] |= {"budget": "100s"}
    del small_document["trainer"]["max_epochs"]
    small_document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel"}},
        "transfer": "lp-ft",
        "schedule": {"warmup_steps": 100},
    }
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    small_document["data"] |= {"image_size": 32}
    return small_document


def completion_of(document: Document, root: Path, seconds: float) -> Completion:
    job = validate_document(document)
    index, _ = build_index(job, root)
    return Completion(job, document, index, PRECISION, ticking(seconds))


def test_length_follows_from_measured_times_and_random_numbers_continue(document: Document, demo_root: Path) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.random(), float(torch.rand(1))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    completion = completion_of(document, demo_root, 0.5)
    measured = completion.measure(lambda: 4.0)
    assert (random.random(), np.random.random(), float(torch.rand(1))) == expected
    assert measured.costs is not None
    assert measured.costs.step_s == {"c3 c4 c5": 0.5, "": 0.5}
    # The second of two batches of val has one image, so 0.5 s per image; 5 images on val, and on test with 5 s more.
    assert (measured.costs.validation_s, measured.costs.final_s) == (2.5, 7.5)
    # 95 % of 100 s without 4 s and 7.5 s are 83.5 s, for epochs of 5 batches and a validation: 5 s each.
    assert measured.fields == {
        "trainer.max_epochs": 16,
        "trainer.limit_train_batches": None,
        "model.unfreeze": {"0": "none", "4": "all"},
        "model.schedule.warmup_steps": 4,
    }
    assert completion.messages[0].startswith("budget 100s (0:00:04 used): 16 epochs with 5 batches, at 0.500 s per ")
    assert completion.messages[1] == "model.schedule.warmup_steps: 4 instead of 100, a tenth of the run"


def test_end_of_a_run_includes_the_passes_that_evaluation_asks_for(document: Document, demo_root: Path) -> None:
    document["evaluation"] = {"corruptions": True, "calibrate": "temperature"}
    # 0.5 s per image: 5 of test, 18 times as many under corruptions, and twice the 5 of val; 5 s more.
    assert completion_of(document, demo_root, 0.5).costs().final_s == 2.5 + 18 * 2.5 + 2 * 2.5 + 5


def test_budget_that_is_too_short_is_refused_with_one_that_is_not(document: Document, demo_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"the start took 95 s, a validation takes about 2 s, .* write at least"):
        completion_of(document, demo_root, 0.5).measure(lambda: 95.0)


def test_stored_values_complete_the_same_document_and_no_other(
    document: Document, small: Document, tmp_path: Path
) -> None:
    run_dir, job = RunDir.of(tmp_path / "run"), validate_document(document)
    run_dir.path.mkdir()
    RunMeasurement(fields={"trainer.max_epochs": 21, "model.unfreeze": {"0": "none", "5": "all"}}).write(
        run_dir.measured
    )
    completed = with_stored_values(job, run_dir)
    assert (completed.trainer.max_epochs, completed.model.unfreeze) == (21, {0: "none", 5: "all"})
    assert with_stored_values(validate_document(small), run_dir).trainer.max_epochs == 2
    write_documents(run_dir, document, job, Inputs(tmp_path, "none"))
    assert load_job([str(run_dir.config_yaml)]) == completed
    run_dir.last_checkpoint.parent.mkdir()
    run_dir.last_checkpoint.touch()
    assert choose_run_dir(job, run_dir.path, tmp_path) == run_dir
    assert choose_run_dir(completed, run_dir.path, tmp_path) == run_dir
    other = validate_document(apply_override(document, "trainer.budget", "2h"))
    with pytest.raises(ConfigError, match=r"other values of trainer\.budget; name a new folder"):
        choose_run_dir(other, run_dir.path, tmp_path)


@pytest.mark.usefixtures("command_line")
def test_run_with_a_budget_shows_its_length_and_ends_within_it(
    document: Document, demo_root: Path, tmp_path: Path
) -> None:
    document["model"]["transfer"] = "full"
    document["trainer"]["budget"] = "30s"
    run_dir = RunDir.of(tmp_path / "run")
    JobCLI(FitWorkflow(document, Inputs(demo_root, "none"), run_dir, clock=ticking(0.2)), validate_document(document))
    completed = load_job([str(run_dir.config_yaml)])
    assert RunMeasurement.read(run_dir.measured).fields["trainer.max_epochs"] == completed.trainer.max_epochs
    result = json.loads(run_dir.result.read_text())
    assert 15 < result["timing"]["used_s"] < result["timing"]["budget_s"] == 30
    assert BudgetUse.read(run_dir.budget).used_s < 30
    events = read_events(run_dir.events)
    assert [event.data["lr"] for event in events if event.kind == "progress"][-1] == pytest.approx(2e-5)
    assert [event.data["stage"] for event in events if event.kind == "stage"][:3] == [
        "validating_data", "measuring", "measuring",
    ]  # fmt: skip
