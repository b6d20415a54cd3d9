"""The permissions of API keys. Torch-free."""

from enum import StrEnum


class Scope(StrEnum):
    """A permission of an API key; no scope except `admin` includes another one."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    MODELS_READ = "models:read"
    MODELS_PROMOTE = "models:promote"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


MEANINGS = {
    Scope.JOBS_READ: "read jobs, their events, logs, results and files",
    Scope.JOBS_WRITE: "submit, cancel, retry and delete jobs, and change their priority",
    Scope.MODELS_READ: "read models, download them, and predict with them",
    Scope.MODELS_PROMOTE: "move aliases of models, and delete versions",
    Scope.DATASETS_READ: "read data sets and their reports",
    Scope.DATASETS_WRITE: "upload and delete data sets",
    Scope.METRICS_READ: "read /metrics",
    Scope.ADMIN: "everything, for all tenants",
}
"""The permission of each scope in words."""
