"""`explain`: the explanation of one prediction of a run's model, as files."""

import io
from pathlib import Path

import numpy as np

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.ranks import print_rank_zero
from pipelines.explanations.chosen_row import ExplanationUnusable
from pipelines.explanations.explain import Explanation, explain
from pipelines.explanations.picture import draw_explanation
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Predictor
from pipelines.run.saved_run import load_document, load_run, new_output
from pipelines.run_folder.explanation_layout import ExplanationDir
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.explanation import ExplanationFacts, ExplanationRequest


def explain_image(
    path: Path,
    image: Path,
    request: ExplanationRequest,
    *,
    reference: Path | None = None,
    out: Path | None = None,
) -> ExplanationFacts:
    """Explain a prediction of a run's best weights for an image file, write the explanation, and return its facts.

    Args:
        path: folder of the run.
        image: the file.
        request: the prediction, and the method.
        reference: an image file that embeddings are compared with.
        out: folder of the files; by default a new one below `eval/` of the run folder.

    Raises:
        ConfigError: the run has no weights, the request does not fit, or the files cannot be written.
        DataError: an image cannot be read.
    """
    run_dir, job = load_document(path)
    saved = load_run(run_dir, job)
    predictor = Predictor(TorchNetwork(saved.network()), saved.job, saved.categories)
    samples = [None if file is None else predictor.prepare(file) for file in (image, reference)]
    sample, other = samples
    assert sample is not None
    for prepared in filter(None, samples):
        for warning in prepared.warnings:
            print_rank_zero(f"warning: {prepared.info.file_name}: {warning}")
    try:
        explanation = explain(predictor, sample, request, reference=other)
    except ExplanationUnusable as error:
        problems = [FieldProblem(f"--{problem.field}", problem.message) for problem in error.problems]
        raise ConfigError(problems) from error
    _write(_folder(run_dir, out), explanation, predictor, image)
    return explanation.facts


def _folder(run_dir: RunDir, out: Path | None) -> ExplanationDir:
    if out is not None:
        return ExplanationDir(out)
    try:
        return ExplanationDir(new_output(run_dir, "explain").output)
    except OSError as error:
        message = f"{run_dir.path} cannot be written ({error.strerror}); name another folder"
        raise ConfigError(FieldProblem("--out", message)) from error


def _write(folder: ExplanationDir, explanation: Explanation, predictor: Predictor, image: Path) -> None:
    array, picture = io.BytesIO(), io.BytesIO()
    np.save(array, explanation.values)
    draw_explanation(predictor.decode(image), explanation).save(picture, "PNG")
    try:
        write_atomic(folder.values, array.getvalue())
        write_atomic(folder.picture, picture.getvalue())
        write_atomic(folder.facts, explanation.facts.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(FieldProblem("--out", f"{folder.path} cannot be written ({error.strerror})")) from error
    print_rank_zero(str(folder.picture))
