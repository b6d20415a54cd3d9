"""The command line of `explain`, before torch is imported."""

import argparse

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.command_line.arguments import CommandParser
from pipelines.spec.explanation import DEFAULT_STEPS, MAX_PREDICTION, MAX_STEPS, METHODS, MIN_STEPS, ExplanationRequest


def explain_parser() -> CommandParser:
    """Return the parser of `explain`."""
    parser = CommandParser(
        prog="pyramidion explain",
        description="Show which parts of an image a prediction depends on. Writes a picture, the map as an array, and "
        "the facts as JSON, which are printed too. docs/explanations.md describes what is explained.",
    )
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="folder of a run that has a checkpoint")
    parser.add_argument("--image", required=True, metavar="FILE", help="image file")
    parser.add_argument("--task", metavar="NAME", help="task of the prediction (default: the only one)")
    parser.add_argument(
        "--prediction",
        type=int,
        metavar="N",
        help="number in the answer of `predict` without a threshold, counted from 0 (default: the first one, or the "
        "first one of --class)",
    )
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="class whose score is explained (default: the predicted one)"
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="image whose embedding is compared (default: the similarity of the image to itself)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="default: gradcam; occlusion for the similarity of an image to itself",
    )
    steps = ", ".join(f"{number} for {method}" for method, number in DEFAULT_STEPS.items())
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"window positions along the longer side, or points of the integral, {MIN_STEPS} to {MAX_STEPS} "
        f"(default: {steps})",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the three files (default: eval/explain-TIME in the run folder)"
    )
    return parser


def explanation_request(options: argparse.Namespace) -> ExplanationRequest:
    """Return the request of the options; raises ConfigError for a number that is out of range."""
    if options.prediction is not None and not 0 <= options.prediction <= MAX_PREDICTION:
        message = f"got {options.prediction}; write 0 for the first one, and at most {MAX_PREDICTION}"
        raise ConfigError(FieldProblem("--prediction", message))
    if options.steps is not None and not MIN_STEPS <= options.steps <= MAX_STEPS:
        raise ConfigError(FieldProblem("--steps", f"got {options.steps}; write {MIN_STEPS} to {MAX_STEPS}"))
    return ExplanationRequest(
        task=options.task,
        prediction=options.prediction,
        label=options.label,
        method=options.method,
        steps=options.steps,
    )
