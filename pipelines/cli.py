"""`python -m pipelines.cli fit | check | plan | lr-find | validate | test | predict`.

The command line is parsed, the document validated and the inputs looked up before torch is imported.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipelines.base.cores import let_idle_threads_sleep
from pipelines.base.deferred_scipy import defer_scipy_signal
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem, PyramidionError, RegistryError, Stopped
from pipelines.base.exit_codes import end_process, exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.ranks import is_rank_zero
from pipelines.base.records import Split
from pipelines.base.signals import release_stop_signals
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.command_line.arguments import Overrides, places_of
from pipelines.command_line.chosen_documents import complete
from pipelines.command_line.evaluation_options import evaluation_request
from pipelines.command_line.parsers import COMMANDS, PREVIEWS, parser_of
from pipelines.data.dataset.index import build_index
from pipelines.data.drafting.finetune import ChosenDocument
from pipelines.preflight import Places, preflight
from pipelines.run_folder.attempt_log import failure_recorded
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RUN_DIR_VARIABLE, RunDir, runs_root
from pipelines.spec.load import Document, assemble, resolved, validate_document, write_yaml
from pipelines.tasks.thresholds import threshold_option
from pipelines.training.launcher import report_to_rank_zero
from pipelines.training.stopping import StopRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors that users can fix are printed without a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        print(f"usage: python -m pipelines.cli {'|'.join(COMMANDS)} ...", file=sys.stderr)
        return ExitCode.USAGE
    let_idle_threads_sleep()
    defer_scipy_signal()
    return exit_code_of(lambda: _run_as_rank(words[0], words[1:]))


def _run_as_rank(command: str, words: Sequence[str]) -> int:
    """Run one command; the error of another rank than rank 0 is reported by rank 0."""
    try:
        require_temporary_folder()
        _run(command, words, _signals_handled(command))
    except PyramidionError as error:
        if is_rank_zero():
            raise
        report_to_rank_zero(error)
        return error.exit_code
    return ExitCode.DONE


def _signals_handled(command: str) -> StopRequest:
    """Release the signals that the parent of this process held back, and handle them if the command can be resumed."""
    if command in PREVIEWS:
        release_stop_signals()
        return StopRequest()
    # The other ranks stop where rank 0 does.
    activity = "before training" if command == "fit" else "before the end"
    stop = StopRequest(activity if is_rank_zero() else None)
    stop.install()
    return stop


def _run(command: str, words: Sequence[str], stop: StopRequest) -> None:
    options, overrides = parser_of(command).parse_command_line(words)
    if command == "fit":
        with failure_recorded():
            _fit(options, overrides, words, stop)
    elif command in PREVIEWS:
        _preview(command, options, overrides)
    else:
        _use_run(command, options, overrides, stop)


def _fit(options: argparse.Namespace, overrides: Overrides, words: Sequence[str], stop: StopRequest) -> None:
    started = time.monotonic()
    places, run_dir = places_of(options), Path(options.run_dir) if options.run_dir else None
    found = _document(options, overrides, places, run_dir)
    job = validate_document(found.document)
    if options.print_config:
        print(write_yaml(resolved(job), found.explanation), end="")
        return
    if found.explanation:
        print(found.explanation, flush=True)
    resumes = run_dir is not None and RunDir.of(run_dir).last_checkpoint.exists()
    inputs = preflight(job, places, is_new=not resumes)
    from pipelines.run.folder_setup import choose_run_dir, is_finished

    if ATTEMPT_DIR_VARIABLE in os.environ and run_dir and is_finished(RunDir.of(run_dir), job):
        # The service's previous attempt was killed after its work was complete, before it could exit.
        return
    chosen = choose_run_dir(job, run_dir, runs_root())
    with no_garbage_collection():
        from pipelines.run.fit import fit

    try:
        fit(job, found.document, inputs, chosen, _recorded(options), stop, started, found.explanation)
    except Stopped as error:
        raise Stopped(f"{error}; {_how_to_resume(chosen, words, run_dir)}") from error


def _how_to_resume(run_dir: RunDir, words: Sequence[str], requested: Path | None) -> str:
    """Return what a stopped run has saved, and the command that resumes it, for runs that no service resumes."""
    has_checkpoint = run_dir.last_checkpoint.exists()
    saved = f"saved in {run_dir.last_checkpoint}" if has_checkpoint else "there is nothing to save yet"
    if ATTEMPT_DIR_VARIABLE in os.environ:
        return saved
    command = shlex.join(["pyramidion", "fit", *words, *([] if requested else ["--run-dir", str(run_dir.path)])])
    return f"{saved}\n{'resume' if has_checkpoint else 'start again'} with: {command}"


def _document(
    options: argparse.Namespace, overrides: Overrides, places: Places, run_dir: Path | None = None
) -> ChosenDocument:
    """Return the document, and how it was chosen, if a recipe has chosen it."""
    is_stored = not is_rank_zero()
    if is_stored:
        run_dir = Path(os.environ[RUN_DIR_VARIABLE])

    def has_gpu() -> bool:
        import torch

        return torch.cuda.is_available()

    folder = None if run_dir is None else RunDir.of(run_dir)
    return complete(_assemble(options, overrides), places, folder, has_gpu, is_stored=is_stored)


def _assemble(options: argparse.Namespace, overrides: Overrides) -> Document:
    if not options.config and not overrides:
        raise ConfigError(FieldProblem("--config", "missing; name a YAML file, or a recipe such as recipe:demo"))
    budget = [] if options.budget is None else [("trainer.budget", options.budget)]
    return assemble(options.config, [*overrides, *budget])


def _recorded(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options for LightningCLI's configuration, where `data.root` is the document's."""
    return {name: value for name, value in vars(options).items() if name != "data.root"}


def _preview(command: str, options: argparse.Namespace, overrides: Overrides) -> None:
    """Print what a job would train, and warnings about its document."""
    try:
        places = places_of(options)
        found = _document(options, overrides, places)
        if found.explanation:
            print(found.explanation, file=sys.stderr)
        job = validate_document(found.document)
        inputs = preflight(job, places)
        index, data_report = build_index(job, inputs.data)
        data_report.raise_errors()
        with no_garbage_collection():
            from pipelines.run.previews import preview

        with redirect_stdout(sys.stderr):
            shown = preview(command, options, job, found.document, inputs, index, data_report)
    except ConfigError as error:
        if options.json:
            print(error.to_json())
        raise
    except RegistryError as error:
        if options.json:
            print(json.dumps([{"field": "model.init_from", "message": str(error)}]))
        raise
    for warning in shown.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(shown.content) if options.json else shown.text)


def _use_run(command: str, options: argparse.Namespace, overrides: Overrides, stop: StopRequest) -> None:
    for name, _ in overrides:
        if command == "predict" or not name.startswith("trainer."):
            allowed = "" if command == "predict" else "; only --trainer.* can be set"
            raise ConfigError(FieldProblem(f"--{name}", f"{command} uses the document of its run folder{allowed}"))
    try:
        _run_saved(command, options, overrides, stop)
    except Stopped as error:
        raise Stopped(f"{error}; run the same command again") from error


def _run_saved(command: str, options: argparse.Namespace, overrides: Overrides, stop: StopRequest) -> None:
    run_dir, places, recorded = Path(options.run_dir), places_of(options), _recorded(options)
    if command != "predict":
        request = evaluation_request(options)
        with no_garbage_collection():
            from pipelines.run.evaluate_run import score_run

        split: Split = "val" if command == "validate" else "test"
        score_run(command, run_dir, split, places, overrides, options.weights, recorded, stop, request)
        return
    threshold = threshold_option(options.threshold)
    images = [Path(image) for image in (*options.image, *options.images)]
    if bool(images) == bool(options.split):
        raise ConfigError(FieldProblem("", "pass either image files or folders with image files, or --split NAME"))
    with no_garbage_collection():
        from pipelines.run.predict_images import predict_images, predict_split

    settings: dict[str, Any] = {
        "draw": options.draw,
        "weights": options.weights,
        "threshold": threshold,
        "classes": options.classes,
        "options": recorded,
    }
    if images:
        predict_images(run_dir, images, **settings)
    else:
        predict_split(run_dir, options.split, places, **settings)


if __name__ == "__main__":
    end_process(main())
