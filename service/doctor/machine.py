"""Checks of the machine: Python and torch, limits of the system, memory for data workers, temporary folders."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from pipelines.base.cores import num_cores
from service.child_process import child_environment
from service.doctor.findings import CheckResult
from service.settings import Settings

MIN_PYTHON = (3, 11)
MIN_TORCH = (2, 11)
MIN_FILES = 1024
MIN_SHARED_BYTES = 512 << 20
LEFTOVER_AGE_S = 86_400.0
TORCH_TIMEOUT_S = 180.0
PACKAGES = ("torch", "torchvision", "lightning", "timm", "mlflow", "fastapi", "sqlalchemy", "alembic")
_TORCH = """
import json, torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "gpus": gpus}))
"""


def python() -> Iterator[CheckResult]:
    """Check the version of Python, and that all packages are installed."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        yield CheckResult("python", "failed", f"Python {version}", "install Python 3.11 or 3.12")
    else:
        yield CheckResult("python", "ok", f"Python {version} at {sys.executable}")
    missing = [name for name in PACKAGES if not _is_installed(name)]
    if missing:
        remedy = "run `pip install -c constraints.txt .` in this environment"
        yield CheckResult("packages", "failed", f"missing: {', '.join(missing)}", remedy)
    else:
        yield CheckResult("packages", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES[:5]))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def torch(settings: Settings) -> Iterator[CheckResult]:
    """Check that torch and torchvision work together, and see the GPUs that jobs may use."""
    command = [sys.executable, "-c", _TORCH]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        remedy = "install torch and torchvision of constraints.txt together"
        yield CheckResult("torch", "failed", reason, remedy)
        return
    found = json.loads(done.stdout.splitlines()[-1])
    numbers = tuple(int(part) for part in found["torch"].split("+")[0].split(".")[:2])
    detail = f"torch {found['torch']}, torchvision {found['torchvision']}, {len(found['gpus'])} GPUs"
    if numbers < MIN_TORCH:
        yield CheckResult("torch", "failed", detail, "install torch 2.11 or newer")
    elif settings.gpus is not None and settings.gpus > len(found["gpus"]):
        remedy = f"set PYRAMIDION_GPUS to at most {len(found['gpus'])}, or repair the driver"
        yield CheckResult("torch", "failed", f"{detail}, but PYRAMIDION_GPUS is {settings.gpus}", remedy)
    else:
        yield CheckResult("torch", "ok", detail)


def open_files() -> Iterator[CheckResult]:
    """Check the limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    detail = "unlimited" if hard == resource.RLIM_INFINITY else f"at most {hard}"
    if hard != resource.RLIM_INFINITY and hard < MIN_FILES:
        remedy = f"raise the hard limit to {MIN_FILES} or more: LimitNOFILE of systemd, --ulimit nofile of docker"
        yield CheckResult("open files", "failed", detail, remedy)
    else:
        yield CheckResult("open files", "ok", detail)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[CheckResult]:
    """Check the memory through which data workers send images."""
    if not folder.is_dir():
        yield CheckResult("shared memory", "warning", f"{folder} does not exist", "use data.num_workers: 0")
        return
    size = shutil.disk_usage(folder).total
    detail = f"{size >> 20} MiB in {folder}"
    if size < MIN_SHARED_BYTES:
        remedy = "enlarge it (docker run --shm-size=2g, shm_size of docker compose), or use data.num_workers: 0"
        yield CheckResult("shared memory", "warning", detail, remedy)
    else:
        yield CheckResult("shared memory", "ok", detail)


def cores(settings: Settings) -> Iterator[CheckResult]:
    """Check that jobs may not use more cores than there are."""
    available = num_cores()
    used = settings.cpus or available
    detail = f"{available} cores are available, and jobs may use {used}"
    if used > available:
        remedy = f"set PYRAMIDION_CPUS to at most {available}, or raise the quota of the container"
        yield CheckResult("cores", "warning", detail, remedy)
    else:
        yield CheckResult("cores", "ok", detail)


def temporary_folder(folder: Path | None = None) -> Iterator[CheckResult]:
    """Check that temporary files can be written, and that ended processes left none."""
    path = folder or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=path) as file:
        file.write(b"x")
    old = [entry for entry in path.glob("pyramidion-*") if _age_s(entry) > LEFTOVER_AGE_S and _is_own(entry)]
    if old:
        remedy = f"stop the service, then delete {path}/pyramidion-*"
        yield CheckResult("temporary folder", "warning", f"{len(old)} folders of ended processes in {path}", remedy)
    else:
        yield CheckResult("temporary folder", "ok", f"{path} is writable")


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return False
