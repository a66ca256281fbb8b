"""The variables that a model's process gets: those it needs to run as it did, and none that may hold a secret. Pure.

A training's process gets the same, and what reading the snapshot takes.
"""

from __future__ import annotations

from collections.abc import Mapping

# A list of what may pass, not of what may not: nobody knows the names of all secrets. A setting that a model reads is
# one of its `parameters:`, which are part of its digest.
PASSED = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "DYLD_LIBRARY_PATH",
        "MALLOC_ARENA_MAX",
        "CONDA_PREFIX",
        "PYTHONHASHSEED",
        "PYTHONUTF8",
        "PYTHONIOENCODING",
        "MLSTREAM_DEBUG",
    }
)
PASSED_PREFIXES = (
    "LC_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "VECLIB_",
    "NUMEXPR_",
    "NUMBA_",
    "POLARS_",
    "LOKY_",
    "CUDA_",
    "NVIDIA_",
    "ROCR_",
    "HIP_",
)
# Where our own interpreter finds packages: another one must not see them. And another one is in a cache of ours, where
# it may keep what it compiled, whatever holds for ours.
OURS_ONLY = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"})


# What opens a store at a URL: the credentials of the storage are its own, not the broker's and not MLflow's.
_STORE_PREFIXES = ("AWS_", "AZURE_", "FSSPEC_", "GCS_", "GOOGLE_", "OBJECT_STORE_", "S3_")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"})
_CACHE = "MLSTREAM_CACHE"


def training_environment(variables: Mapping[str, str], *, same_python: bool, remote: bool) -> dict[str, str]:
    """Those of the variables that a training's process gets.

    Args:
        variables: the parent's.
        same_python: whether it runs in the parent's interpreter.
        remote: whether the snapshot is in a store at a URL, which it may have to read from.
    """
    found = clean_environment(variables, same_python=same_python)
    for name, value in variables.items():
        if name == _CACHE or (remote and (name in _PROXIES or name.startswith(_STORE_PREFIXES))):
            found[name] = value
    return found


def clean_environment(variables: Mapping[str, str], *, same_python: bool) -> dict[str, str]:
    """Those of the variables that a model's process gets.

    Args:
        variables: the worker's.
        same_python: whether the model runs in the worker's interpreter.
    """
    passed = PASSED | OURS_ONLY if same_python else PASSED
    return {name: value for name, value in variables.items() if name in passed or name.startswith(PASSED_PREFIXES)}
