"""What a trainer finds in its environment: what it needs, and no secret of the service."""

from collections.abc import Callable
from typing import Any

import pytest

SECRETS = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE", "DATABASE_URL", "PGPASSWORD",
    "HF_TOKEN", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_FLASK_SERVER_SECRET_KEY", "GITHUB_TOKEN", "PYRAMIDION_API_KEY",
    "PYRAMIDION_PREDICTOR_SECRET", "MY_UNKNOWN_VARIABLE",
}  # fmt: skip
OF_LAUNCHERS = {
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "MLFLOW_RUN_ID",
}  # fmt: skip
NEEDED = {
    "LD_LIBRARY_PATH", "CUDA_HOME", "NCCL_DEBUG", "OMP_SCHEDULE", "MKL_DYNAMIC", "TORCH_HOME", "HF_HOME", "https_proxy",
    "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "PYRAMIDION_CACHE_DIR", "CC",
}  # fmt: skip


@pytest.fixture
def environment(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Callable[..., dict[str, str]]:
    """Start an attempt, and return the environment of its process."""
    for name in SECRETS | OF_LAUNCHERS:
        monkeypatch.setenv(name, f"secret of {name}")
    for name in NEEDED - {"TMPDIR"}:
        monkeypatch.setenv(name, f"needed {name}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def environment(**settings: Any) -> dict[str, str]:
        here = bench(**settings)
        job = here.submit("cat /proc/$$/environ > found; mv found environment; echo '{}' > ../../result.json")
        variables = here.file(job, "environment").read_bytes().decode().split("\0")
        here.ended(job)
        return dict(variable.split("=", 1) for variable in variables if variable)

    return environment


def test_trainer_gets_what_it_needs_and_no_secret(environment: Callable[..., dict[str, str]]) -> None:
    found = environment()
    assert found.keys() & SECRETS == set()
    assert found.keys() & (OF_LAUNCHERS - {"MLFLOW_RUN_ID"}) == set()
    assert [name for name, text in found.items() if "secret" in text] == []
    assert {name for name in NEEDED if f"needed {name}" in found.get(name, "")} == NEEDED - {"TMPDIR"}
    assert found.keys() > {"PATH", "HOME", "TMPDIR", "PYRAMIDION_ATTEMPT_DIR", "PYRAMIDION_DATA_ROOTS"}
    known = {"ATTEMPT_DIR", "CACHE_DIR", "DATA_ROOTS", "LINKS", "RUNS_ROOT", "WEIGHTS_ROOTS", "STARTED_BY", "TENANT"}
    known |= {"DECODE_TIMEOUT_S", "DECODE_MEMORY_BYTES"}
    own = {name.removeprefix("PYRAMIDION_") for name in found if name.startswith("PYRAMIDION_")}
    assert own <= known


def test_operator_adds_names_and_prefixes(environment: Callable[..., dict[str, str]]) -> None:
    found = environment(trainer_variables=("AWS_*", "HF_TOKEN"))
    assert found.keys() & SECRETS == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE", "HF_TOKEN",
    }  # fmt: skip
