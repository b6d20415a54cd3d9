"""What MLflow serves: a table with one base64 image a row goes in, the predict endpoint's JSON a row comes out.

MLflow runs this file from the registered model's folder (a model *from code*: nothing is pickled), with the four
packages that were logged beside it. `pipelines.tracking.registry` logs it.
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
    """The predictor behind MLflow's interface; MLflow finds the arguments of both methods by their names."""

    def load_context(self, context: Any) -> None:
        """Load the exported model of artifact `exported`."""
        # Logging a model runs this file too, where torch is not wanted.
        from pipelines.inference.predictor import Predictor

        self.predictor = Predictor.from_exported(Path(context.artifacts["exported"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return a JSON text a row.

        Args:
            context: unused.
            model_input: column `image`: image files, base64.
            params: unused; MLflow hands it over.

        Raises:
            ValueError: a row holds no base64.
            DataError: a row holds no image.
        """
        images = [_decoded(row, text) for row, text in enumerate(model_input["image"])]
        return [json.dumps(answer) for answer in self.predictor.predict(images)]


def _decoded(row: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(f"image in row {row}: {error}; write the image file's bytes as base64") from None


mlflow.models.set_model(ServedModel())
