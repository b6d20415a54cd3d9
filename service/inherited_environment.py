"""The environment variables that training and predictions may inherit from the service: a list of what they need.

Everything else is withheld: keys, the URL of the database, secrets of the storage, and what a launcher has set for the
service itself. `PYRAMIDION_TRAINER_VARIABLES` adds names for an installation that needs more. Torch-free.
"""

from collections.abc import Iterable, Mapping

NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "TZ", "LANG", "LANGUAGE", "TERM", "NO_COLOR",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX", "CC", "CXX", "MAX_JOBS", "DO_NOT_TRACK",
    "PYTHONHOME", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONFAULTHANDLER", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONNOUSERSITE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET", "HUGGINGFACE_HUB_CACHE", "MPLCONFIGDIR", "MPLBACKEND",
    "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_REGISTRY_URI", "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "PYRAMIDION_CACHE_DIR",
    "PYRAMIDION_NODES_INTERFACE",
})  # fmt: skip
"""Complete names."""
PREFIXES = (
    "LC_", "XDG_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "HIP_", "HSA_", "ROCR_", "MIOPEN_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "ATEN_", "NUMEXPR_", "TORCH_", "TORCHINDUCTOR_",
    "PYTORCH_", "TRITON_", "MALLOC_", "MLFLOW_TRACKING_", "MLFLOW_HTTP_", "MLFLOW_ARTIFACT_", "MLFLOW_MULTIPART_",
    "MLFLOW_ENABLE_",
)  # fmt: skip
"""Starts of names. Those of MLflow include the credentials that tracking needs."""


def inherited_environment(environ: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that a process of training or predictions may inherit.

    Args:
        environ: the environment of the service.
        more: further names; one that ends with `*` is the start of names.
    """
    added = list(more)
    names = NAMES.union(name for name in added if not name.endswith("*"))
    starts = (*PREFIXES, *(name[:-1] for name in added if name.endswith("*")))
    return {name: text for name, text in environ.items() if name in names or name.startswith(starts)}
