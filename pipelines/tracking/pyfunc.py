"""The model that MLflow serves: from a table with one base64 image per row to one JSON answer per row.

The answers are those of the predict endpoint. MLflow runs this file from the registered model's folder (a model *from
code*: nothing is pickled), with the three packages that `pipelines.tracking.registry` logged beside it.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.pyfunc.model import PythonModel


class ServedModel(PythonModel):
    """The predictor with MLflow's interface; MLflow passes the arguments of both methods by name."""

    def load_context(self, context: Any) -> None:
        """Load the exported model of artifact `exported`, in the fastest of its exports to other runtimes that may be
        served and whose runtime is installed, and else in torch."""
        # Logging a model also runs this file, and should not import torch.
        from pipelines.inference.fastest import load_fastest
        from pipelines.run_folder.exports_layout import ExportsDir

        folder = Path(context.artifacts["exported"])
        self.predictor, self.runtime = load_fastest(folder, ExportsDir.of(folder.parent))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return one JSON text per row.

        Args:
            context: unused.
            model_input: column `image`: image files as base64.
            params: `threshold`, see `pyramidion predict --threshold`; a text, which is empty for none.

        Raises:
            ValueError: a row is not valid base64.
            DataError: a row is not an image.
            ConfigError: the threshold is not valid, or the model has no best thresholds.
        """
        from pipelines.tasks.thresholds import threshold_option

        threshold = threshold_option((params or {}).get("threshold") or None, "threshold")
        images = [_decoded(row, text) for row, text in enumerate(model_input["image"])]
        return [json.dumps(answer) for answer in self.predictor.predict(images, threshold)]


def _decoded(row: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(f"image in row {row}: {error}; write the image file's bytes as base64") from None


mlflow.models.set_model(ServedModel())
