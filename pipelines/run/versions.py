"""The versions of packages and of the code that a result depends on."""

import platform
import subprocess
from importlib import metadata

PACKAGES = ("pyramidion", "torch", "torchvision", "lightning", "timm", "hotcoco", "mlflow")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """Return the commit that is checked out in the working directory; None outside a checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
