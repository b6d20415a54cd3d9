"""The folder of a registered model in MLflow. Torch-free; MLflow is imported when used."""

import base64
import io
import shutil
import tempfile
from importlib import metadata, resources
from pathlib import Path

ARTIFACT = "exported"
PACKAGES = ("backbones", "heads", "pipelines")
"""Packages of this project that a served model imports; `service` is above them, and half of all files."""
REQUIREMENTS = (
    "torch", "torchvision", "timm", "pytorch-metric-learning", "safetensors", "numpy", "pillow", "pydantic", "pyyaml",
    "pandas", "mlflow",
)  # fmt: skip
"""Packages that a served model imports."""


def save_pyfunc(exported: Path, folder: Path, *, run_id: str, model_id: str, location: str) -> None:
    """Write an MLflow model folder: the exported model, `pyfunc.py`, the three packages, signature and example."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    packages = {name: Path(str(resources.files(name))) for name in PACKAGES}
    with tempfile.TemporaryDirectory() as scratch:
        # MLflow names the artifact's folder after its source, and follows no links.
        named = shutil.copytree(exported, Path(scratch) / ARTIFACT)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(packages["pipelines"] / "tracking" / "pyfunc.py"),
            artifacts={ARTIFACT: str(named)},
            code_paths=[str(path) for path in packages.values()],
            pip_requirements=pip_requirements(),
            signature=ModelSignature(
                Schema([ColSpec("string", "image")]),
                Schema([ColSpec("string")]),
                ParamSchema([ParamSpec("threshold", "string", default="")]),
            ),
            input_example=pd.DataFrame({"image": [example_image()]}),
            mlflow_model=Model(artifact_path=location, run_id=run_id, model_id=model_id, model_uuid=model_id),
        )


def pip_requirements() -> list[str]:
    """Return the requirements of a served model, pinned to the installed versions, without local labels such as `+cpu`,
    which package indexes do not provide."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def example_image() -> str:
    """Return a small gray PNG as base64."""
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (64, 48), (128, 128, 128)).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()
