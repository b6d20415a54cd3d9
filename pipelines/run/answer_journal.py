"""The journal of a batch prediction: the answer for each image exactly once, no matter how often the job is killed.

The list of images is written once, by the first attempt. Answers are appended in the order of the list, and synced
after each group of images, so that the number of complete lines is the number of images that need not be predicted
again. A line that a killed process has left incomplete is cut off.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.links import require_inside
from pipelines.base.printable import printable
from pipelines.command_line.predicted_images import find_images
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import BatchImage, ImageAnswer

_BLOCK_BYTES = 1 << 20


def listed_images(run_dir: RunDir, folder: Path) -> list[BatchImage]:
    """Return the images of the first attempt, which finds them in the folder.

    Raises:
        DataError: the folder has no images.
    """
    try:
        return [BatchImage.model_validate(row) for row in json.loads(run_dir.image_list.read_text("utf-8"))]
    except FileNotFoundError:
        found = _find(folder)
        # ASCII, because the name of a file may have characters that UTF-8 cannot express.
        write_atomic(run_dir.image_list, json.dumps([image.model_dump(exclude_unset=True) for image in found]))
        return found


def _find(folder: Path) -> list[BatchImage]:
    files, problems = find_images([folder])
    if not files:
        raise DataError(problems)
    # A folder that cannot be listed counts as an image that cannot be read.
    failed = [BatchImage(file=problem.field, problem=problem.message) for problem in problems]
    return [*(_checked(folder, file) for file in files), *failed]


def _checked(folder: Path, file: Path) -> BatchImage:
    name = str(file.relative_to(folder))
    try:
        require_inside(file.resolve(), folder, name)
    except (OSError, RuntimeError, ValueError) as error:
        return BatchImage(file=name, problem=str(error))
    return BatchImage(file=name)


class AnswerJournal:
    """The answers of a run so far.

    Attributes:
        num_answered: number of images that have their line.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._path = run_dir.answers
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            self.num_answered = _end_after_last_line(file)

    def append(self, answers: Sequence[ImageAnswer]) -> None:
        """Append the answers for the next images, and return once they are on the disk."""
        lines = "".join(f"{answer.to_json()}\n" for answer in answers)
        with self._path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
        self.num_answered += len(answers)

    def read(self) -> Iterator[ImageAnswer]:
        """Yield all answers, in the order of the images."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                answer = ImageAnswer.model_validate_json(line)
                if answer.image_id != number:
                    message = f"line {number} is about image {answer.image_id}; submit the job again"
                    raise DataError(FieldProblem(self._path.name, message))
                yield answer


def answer_of(image_id: int, image: BatchImage, error: str) -> ImageAnswer:
    """Return the line of an image that was not predicted."""
    return ImageAnswer(image_id=image_id, file=printable(image.file), error=error)


def _end_after_last_line(file: BinaryIO) -> int:
    """Cut off an incomplete line, and return the number of complete ones."""
    num_lines = end = position = 0
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        num_lines += block.count(b"\n")
        if (last := block.rfind(b"\n")) >= 0:
            end = position + last + 1
        position += len(block)
    if end != position:
        file.truncate(end)
        os.fsync(file.fileno())
    return num_lines
