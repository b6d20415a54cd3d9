"""The results of a batch prediction, written from its journal: files by task, a table of all images, result.json."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from pipelines.inference.predictor import Predictor
from pipelines.run.answer_journal import AnswerJournal
from pipelines.run.versions import package_versions
from pipelines.run_folder.files import rename_synced, write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import ImageAnswer
from pipelines.spec.batch_prediction import (
    BatchImageCounts,
    BatchPredictionResult,
    BatchPredictionSpec,
    FailedImage,
    PredictedTask,
)
from pipelines.tasks.answer_files import AnsweredImage, AnswerFile, AnswerJson
from pipelines.tasks.kinds import kind_of

MAX_FAILED = 1000
COLUMNS = ("image_id", "file_name", "width", "height", "is_predicted", "error", "warnings")


def write_results(spec: BatchPredictionSpec, predictor: Predictor, journal: AnswerJournal, run_dir: RunDir) -> None:
    """Write all files, and result.json last; they are the same whenever this is repeated, except for the versions."""
    tasks, failed, counts = predictor.job.model.tasks, list[FailedImage](), Counter[str]()
    num_rows = Counter[str](dict.fromkeys(tasks, 0))
    with ExitStack() as stack:
        files = {
            task: [
                stack.enter_context(_answer_file(run_dir, task, file, predictor))
                for file in kind_of(task_spec).answer_files
            ]
            for task, task_spec in tasks.items()
        }
        table = stack.enter_context(_replaced(run_dir.images_csv))
        _write_row(table, COLUMNS)
        for line in journal.read():
            counts.update(_states(line))
            _write_row(table, _row(line))
            if line.error is not None:
                failed += [FailedImage(file=line.file, reason=line.error)] if len(failed) < MAX_FAILED else []
                continue
            image = AnsweredImage(line.image_id, line.file, line.image["width"], line.image["height"])
            for task, answer in line.tasks.items():
                num_rows[task] += _num_rows(answer, kind_of(tasks[task]).answer_rows)
                for file in files[task]:
                    file.add(image, answer)
    names = {task: tuple(_name(task, file) for file in kind_of(tasks[task]).answer_files) for task in tasks}
    result = BatchPredictionResult(
        model=spec.model,
        version=spec.version or 0,
        images=BatchImageCounts(**{name: counts[name] for name in BatchImageCounts.model_fields}),
        failed=tuple(failed),
        tasks={
            task: PredictedTask(
                kind=kind_of(tasks[task]).name,
                num_rows=num_rows[task],
                files=tuple(str((run_dir.predictions / name).relative_to(run_dir.path)) for name in names[task]),
            )
            for task in sorted(tasks)
        },
        settings=spec.model_dump(mode="json", exclude_defaults=True),
        versions=package_versions(),
    )
    write_atomic(run_dir.result, json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")
    shutil.rmtree(run_dir.init_from, ignore_errors=True)


def _states(line: ImageAnswer) -> list[str]:
    states = ["total", "predicted" if line.error is None else "failed"]
    return [*states, "damaged"] if line.warnings else states


def _num_rows(answer: AnswerJson, rows: str | None) -> int:
    """Return the number of rows of an answer; an answer without rows counts as one."""
    return len(answer[rows]) if rows in answer else 1


def _row(line: ImageAnswer) -> list[object]:
    size = [line.image.get("width", ""), line.image.get("height", "")]
    return [
        line.image_id, line.file, *size, str(line.error is None).lower(), line.error or "", "; ".join(line.warnings)
    ]  # fmt: skip


def _write_row(file: BinaryIO, row: object) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)  # type: ignore[arg-type]
    file.write(text.getvalue().encode())


def _name(task: str, file: type[AnswerFile]) -> str:
    return f"{task}{file.format.suffix}"


@contextmanager
def _answer_file(run_dir: RunDir, task: str, kind: type[AnswerFile], predictor: Predictor) -> Iterator[AnswerFile]:
    with _replaced(run_dir.predictions / _name(task, kind)) as stream:
        file = kind(stream, predictor.categories[task])
        yield file
        file.close()


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when it is complete and synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
    rename_synced(partial, path)
