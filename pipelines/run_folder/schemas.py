"""The JSON files of a run folder.

The files of attempts (`attempt_files`) and of MLflow (`tracking_files`), and result.json (`pipelines.spec.result`) are
defined in their own modules.

Readers accept files of older and newer versions: unknown fields are ignored, and fields that some writers omit
have a default. Writers write only the fields that they set, in the order of the class.
"""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from pipelines.run_folder.files import write_atomic


class FileSchema(BaseModel):
    """Content of one JSON file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(self.model_dump(exclude_unset=True))

    def write(self, path: Path) -> None:
        """Write the file whole; raises OSError."""
        write_atomic(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not JSON, or does not have this schema.
        """
        return cls.model_validate_json(path.read_bytes())

    @classmethod
    def read_if_valid(cls, path: Path) -> Self | None:
        """Read a file; return None if it is missing, unreadable or damaged."""
        try:
            return cls.read(path)
        except (OSError, ValueError):
            return None


class RunPrecision(FileSchema):
    """The precision that `trainer.precision: auto` stood for when the run started.

    Attributes:
        name: Lightning's name of the precision.
        float32_depthwise: whether depthwise convolutions that are slow in bf16 compute in float32.
    """

    name: str
    float32_depthwise: bool = False


class RunInputs(FileSchema):
    """inputs.json: what the names in the document were resolved to when the run started.

    Attributes:
        data: folder of the data.
        weights: file of the backbone's weights, or `default` or `none`.
        init_from: path of a checkpoint, an exported model or a detector's file, version of a registered model, or name
            of a published detector.
        precision: None in files of earlier versions.
    """

    data: str
    weights: str
    init_from: str | None = None
    precision: RunPrecision | None = None


class Costs(FileSchema):
    """Measured seconds of the parts of a run.

    Attributes:
        step_s: seconds per training batch, by the names of the frozen parts in alphabetical order, separated by spaces.
        validation_s: of one validation.
        final_s: from the end of training to the end of the run.
    """

    step_s: dict[str, float]
    validation_s: float
    final_s: float


class RunMeasurement(FileSchema):
    """measured.json: what a run measured when it started, and the values that followed for its document.

    Attributes:
        fields: the values by dotted name of the field.
        costs: None if no time was measured.
    """

    fields: dict[str, JsonValue] = {}
    costs: Costs | None = None


class BudgetUse(FileSchema):
    """budget.json: the part of `trainer.budget` that the attempts of a run have used so far."""

    used_s: float


class PromotionRecord(FileSchema):
    """The decision whether a registered version becomes the champion, see `pipelines.tracking.challenge.Promotion`.

    Attributes:
        promote_if: the rule of the document.
        metric: that decides.
        champion: number of the champion before the decision.
        low: lower end of the 95 % interval of the difference to the champion; None if it was not computed.
        high: its upper end.
    """

    promote_if: str
    metric: str
    is_promoted: bool
    reason: str
    value: float | None
    champion: int | None
    champion_value: float | None
    low: float | None = None
    high: float | None = None


class Registration(FileSchema):
    """registration.json: the version of MLflow's registry that the run's model became.

    Attributes:
        promotion: None in files of earlier versions.
    """

    name: str
    version: int
    promotion: PromotionRecord | None = None


class DataReportFile(FileSchema):
    """data_report.json, as written by `pipelines.data.dataset.checks.report`.

    Attributes:
        findings: number of findings by kind; `errors` and `warnings` list them all.
        splits: images by split.
        tasks: labels by task.
        layers: what was read from each label layer.
        fingerprints: by split, SHA-256 of its images and labels.
        skipped: the images that were left out.
    """

    schema_version: int
    root: str
    num_errors: int
    num_warnings: int
    findings: dict[str, int]
    splits: dict[str, dict[str, int]]
    tasks: dict[str, dict[str, JsonValue]]
    layers: list[dict[str, JsonValue]]
    fingerprints: dict[str, str]
    num_skipped: int = 0
    skipped: list[dict[str, JsonValue]] = []
    errors: list[dict[str, JsonValue]]
    warnings: list[dict[str, JsonValue]]


class BatchImage(FileSchema):
    """One image of a batch prediction.

    Attributes:
        file: path below the folder of the images.
        problem: why it cannot be read; None if that is not known yet.
    """

    file: str
    problem: str | None = None


class ImageAnswer(FileSchema):
    """One line of answers.jsonl: a prediction, or the reason why there is none.

    Attributes:
        image_id: position of the image in the list, counted from 1.
        file: path below the folder of the images, without characters that cannot be printed.
        image: width and height in pixels; omitted without a prediction.
        tasks: predictions by task, as in answers of the predict endpoint; omitted without a prediction.
        warnings: about a file that is damaged but was read; omitted if there are none.
        error: the reason why there is no prediction; omitted with a prediction.
    """

    image_id: int
    file: str
    image: dict[str, int] = {}
    tasks: dict[str, Any] = {}
    warnings: list[str] = []
    error: str | None = None


class PredictedImage(FileSchema):
    """One entry of predictions.json.

    Attributes:
        file: the image file, as it was named on the command line.
        image: width and height in pixels.
        tasks: predictions by task, as in answers of the predict endpoint.
        warnings: about a file that is damaged but was read; omitted if there are none.
    """

    file: str
    image: dict[str, JsonValue]
    tasks: dict[str, Any]
    warnings: list[str] = []
