"""The catalog is importable without torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["backbones", "backbones.catalog.lookup"])
def test_importing_and_resolving_does_not_import_torch(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        "if 'backbones.catalog.lookup' in sys.modules: sys.modules['backbones.catalog.lookup'].resolve('tv:resnet18')\n"
        "heavy = {'torch', 'torchvision', 'timm', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
