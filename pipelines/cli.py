"""`python -m pipelines.cli fit | check | plan | validate | test | predict`: the document is checked before torch."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pipelines.arguments import OVERRIDES_HELP, add_config_option, add_data_options, dotted_overrides, places_of
from pipelines.errors import DISK_FULL_ERRNOS, ConfigError, FieldProblem, PyramidionError, RegistryError, tell
from pipelines.preflight import preflight
from pipelines.ranks import local_rank
from pipelines.records import Split
from pipelines.run_folder.attempt_log import failure_recorded
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir, runs_root
from pipelines.spec.describe import describe_fields
from pipelines.spec.doubts import doubts
from pipelines.spec.load import Document, assemble, resolved, validate_document, write_yaml
from pipelines.training.launcher import report_to_rank_zero

INTERRUPTED = 128 + 2
PLACE_ERRORS = DISK_FULL_ERRNOS | {errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENOENT}
"""What is wrong with a place and not with us: a full disk, a folder that cannot be made."""

COMMANDS = ("fit", "check", "plan", "validate", "test", "predict")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of what is no part of the document."""
    parser = argparse.ArgumentParser(
        prog=f"pyramidion {command}",
        allow_abbrev=False,
        epilog=f"{OVERRIDES_HELP}\n\n{describe_fields()}" if command == "fit" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    places = add_data_options(parser)
    if command in ("fit", "check", "plan"):
        add_config_option(parser)
        places.add_argument("--weights-root", action="append", type=Path, default=[], metavar="DIR")
        if command == "fit":
            parser.add_argument("--run_dir", type=Path, metavar="DIR", help="default: runs/<name>-<time>")
            parser.add_argument("--print_config", action="store_true", help="print the resolved document, and end")
        else:
            parser.add_argument("--json", action="store_true", help="print one JSON document; problems too")
        return parser
    parser.add_argument("--run_dir", type=Path, required=True, metavar="DIR", help="of a run that has a checkpoint")
    parser.add_argument(
        "--weights",
        choices=("best", "last", "averaged"),
        default="best",
        help="best on val (default) | last, as trained | averaged, of the last checkpoint",
    )
    if command == "predict":
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--images", nargs="+", type=Path, metavar="PATH", help="image files, or folders of them")
        what.add_argument("--split", choices=("train", "val", "test"), help="a split of the run's data")
        parser.add_argument("--draw", action="store_true", help="write pictures with boxes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code; errors that users can mend are told without a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        print(f"usage: python -m pipelines.cli {'|'.join(COMMANDS)} ...", file=sys.stderr)
        return 2
    try:
        known, rest = parser_of(words[0]).parse_known_args(words[1:])
        overrides = dotted_overrides(rest)
        if words[0] == "fit":
            with failure_recorded():
                _fit(known, overrides)
        elif words[0] in ("check", "plan"):
            _foretell(words[0], known, overrides)
        else:
            _revisit(words[0], known, overrides)
    except PyramidionError as error:
        if local_rank() > 0:
            report_to_rank_zero(error)
            return error.exit_code
        return tell(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        print(f"error: {error.filename or 'a file'}: {error.strerror}; free or name another place", file=sys.stderr)
        return 1
    return 0


def _fit(known: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> None:
    asked = _asked(known, overrides)
    job = validate_document(asked)
    if known.print_config:
        print(write_yaml(resolved(job)), end="")
        return
    goes_on = known.run_dir is not None and RunDir.of(known.run_dir).last_checkpoint.exists()
    inputs = preflight(job, places_of(known), is_new=not goes_on)
    from pipelines.run.claim import choose_run_dir, is_finished

    if ATTEMPT_DIR_VARIABLE in os.environ and known.run_dir and is_finished(RunDir.of(known.run_dir), job):
        # The attempt before was killed when all was done, but for saying so.
        return
    run_dir = choose_run_dir(job, known.run_dir, runs_root())
    from pipelines.run.fit import fit

    fit(job, asked, inputs, run_dir)


def _asked(known: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> Document:
    if not known.config and not overrides:
        raise ConfigError(FieldProblem("--config", "missing; name a YAML file, or a recipe such as recipe:demo"))
    return assemble(known.config, overrides)


def _foretell(command: str, known: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> None:
    """Say what a job would be, and what is doubtful about it."""
    try:
        job = validate_document(_asked(known, overrides))
        inputs = preflight(job, places_of(known))
        from pipelines.run.dry_run import dry_run, render
        from pipelines.run.plan import render_plan

        with redirect_stdout(sys.stderr):
            outcome = dry_run(job, inputs)
    except ConfigError as error:
        if known.json:
            print(json.dumps([{"field": problem.field, "message": problem.message} for problem in error.problems]))
        raise
    except RegistryError as error:
        if known.json:
            print(json.dumps([{"field": "model.init_from", "message": str(error)}]))
        raise
    for doubt in doubts(job):
        print(f"warning: {doubt}", file=sys.stderr)
    if command == "check":
        print(json.dumps(outcome.to_dict()) if known.json else render(outcome))
    elif known.json:
        print(json.dumps({"groups": [row.to_dict() for row in outcome.plan]}))
    else:
        print(render_plan(outcome.plan, job.model.schedule))


def _revisit(command: str, known: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> None:
    for name, _ in overrides:
        if command == "predict" or not name.startswith("trainer."):
            but = "" if command == "predict" else ", of which --trainer.* alone can be set"
            raise ConfigError(FieldProblem(f"--{name}", f"{command} takes the document of its run folder{but}"))
    from pipelines.run.revisit import predict_images, predict_split, score_run

    if command != "predict":
        split: Split = "val" if command == "validate" else "test"
        score_run(command, known.run_dir, split, places_of(known), overrides, known.weights)
    elif known.images:
        predict_images(known.run_dir, known.images, draw=known.draw, weights=known.weights)
    else:
        predict_split(known.run_dir, known.split, places_of(known), draw=known.draw, weights=known.weights)


if __name__ == "__main__":
    sys.exit(main())
