"""`pyramidion sweep`: a file becomes a request, and a sweep is shown, plotted and written as a document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from pipelines.base.errors import ConfigError
from pipelines.spec.load import read_document
from service.client.client import URL_VARIABLE
from service.commands.registry import SWEEP
from service.principal import KeyLimits
from service.settings import Settings
from service.states import SweepStatus, TrialState
from service.store.database import open_database
from service.store.records import NewJob
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweeps import SweepStore

SEARCH = {"model.optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2}}
Run = Callable[..., Result]


@pytest.fixture
def run(shared_api: httpx2.Client) -> Run:
    """Run `pyramidion sweep` with arguments."""
    environment = {URL_VARIABLE: str(shared_api.base_url), "COLUMNS": "200"}
    return lambda *words: CliRunner().invoke(SWEEP, list(map(str, words)), env=environment, standalone_mode=False)


@pytest.fixture
def sweep_file(tmp_path: Path, document: dict[str, Any]) -> Path:
    """A sweep whose document is the file `job.yaml` beside it."""
    (tmp_path / "job.yaml").write_text(json.dumps(document))
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps({"document": "job.yaml", "search": SEARCH, "trials": 2, "metric": "val/boxes/AP50"}))
    return path


@pytest.fixture
def ended(run: Run, sweep_file: Path, shared_settings: Settings) -> str:
    """The id of a sweep with one complete trial."""
    sweep_id = run(sweep_file, "--trials", "1").stdout.strip()
    engine: Engine = open_database(shared_settings.url_of_database)
    leased, sweep = LeasedSweepStore(engine, "tests"), SweepStore(engine).get(sweep_id)
    by = leased.submitter(sweep, KeyLimits())
    leased.add_trial(sweep, 0, {"model.optimizer.lr": 0.005}, NewJob("t", {"name": "t"}, 0, 1, 0), by)
    leased.end_trial(sweep, 0, TrialState.COMPLETE, value=0.75)
    leased.finish(sweep, SweepStatus.SUCCEEDED, None)
    engine.dispose()
    return sweep_id


def test_request_has_the_named_document_and_fields_of_the_command_line(
    run: Run, sweep_file: Path, document: dict[str, Any]
) -> None:
    words = ("--trials", "5", "--document.trainer.max_epochs=3", "--priority", "7", "--cpus", "1", "--print-request")
    request = json.loads(run(sweep_file, *words).stdout)
    assert (request["priority"], request["resources"]) == (7, {"cpus": 1})
    config = request["config"]
    assert (config["trials"], config["search"]) == (5, SEARCH)
    assert config["document"] == {**document, "trainer": {**document["trainer"], "max_epochs": 3}}


def test_document_may_be_a_shipped_recipe(run: Run, sweep_file: Path) -> None:
    request = json.loads(run("start", sweep_file, "--document", "null", "--print-request").stdout)
    assert request["config"]["document"] is None
    sweep_file.write_text(json.dumps({"document": "recipe:demo", "search": SEARCH, "trials": 1}))
    request = json.loads(run(sweep_file, "--print-request").stdout)
    assert request["config"]["document"] == read_document("recipe:demo")


def test_invalid_sweep_is_reported_at_its_field(run: Run, sweep_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"^trials: got 0; should be greater than or equal to 1"):
        raise run(sweep_file, "--trials", "0").exception or AssertionError
    with pytest.raises(ConfigError, match="names of searched fields have dots themselves"):
        raise run(sweep_file, "--search.x", "0").exception or AssertionError


def test_sweep_is_shown_and_its_best_document_written(run: Run, ended: str, tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    shown = run("show", ended, "--output", best)
    assert shown.return_value == 0
    for text in (ended, "succeeded", "maximize val/boxes/AP50", "1 of 1", "trial 0, val/boxes/AP50 = 0.7500", "0.005"):
        assert text in shown.stdout
    text = best.read_text()
    assert text.startswith(f"# Trial 0 of sweep {ended}: val/boxes/AP50 = 0.75")
    assert yaml.safe_load(text)["model"]["optimizer"]["lr"] == 0.005
    assert json.loads(run("show", ended, "--json").stdout)["best"]["value"] == 0.75
    assert ended in run("list").stdout


def test_best_document_of_a_sweep_without_one_is_an_error(run: Run, sweep_file: Path, tmp_path: Path) -> None:
    sweep_id = run(sweep_file).stdout.strip()
    shown = run("show", sweep_id, "--output", tmp_path / "best.yaml")
    assert (shown.return_value, (tmp_path / "best.yaml").exists()) == (1, False)
    assert "no trial" in shown.stderr


def test_plot_is_written_as_numbers(run: Run, ended: str, tmp_path: Path) -> None:
    assert run("plot", ended, "--output", tmp_path / "plot.json").return_value == 0
    assert json.loads((tmp_path / "plot.json").read_text())["lines"][0]["values"] == [0.005, 0.75]
    assert "name a .png or a .json file" in str(run("plot", ended, "--output", "plot.gif").exception)


def test_sweep_is_cancelled_while_it_runs_and_deleted_after_its_end(run: Run, ended: str, sweep_file: Path) -> None:
    assert run("cancel", ended).exception is not None
    sweep_id = run(sweep_file).stdout.strip()
    assert run("cancel", sweep_id, "--no-wait").return_value == 0
    assert "cancel requested" in run("show", sweep_id).stdout
    assert run("delete", ended).return_value == 0
    assert run("show", ended).exception is not None
