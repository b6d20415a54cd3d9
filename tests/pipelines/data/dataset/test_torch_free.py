"""The data check, which the API process uses, does not import torch."""

import subprocess
import sys

CODE = """
import sys
import pipelines.data.dataset.commands, pipelines.data.dataset.index, pipelines.data.dataset.roots
heavy = {"torch", "torchvision", "lightning", "timm", "mlflow", "matplotlib", "rich"}
print(sorted(heavy & set(sys.modules)))
"""


def test_data_check_imports_no_heavy_packages() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
