"""The variables that a model's process gets: those it needs to run as it did, and none that may hold a secret. Pure."""

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
        "PYTHONDONTWRITEBYTECODE",
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
# Where our own interpreter finds packages. Another one must not see them.
OUR_PATH = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})


def clean_environment(variables: Mapping[str, str], *, same_python: bool) -> dict[str, str]:
    """Those of the variables that a model's process gets.

    Args:
        variables: the worker's.
        same_python: whether the model runs in the worker's interpreter.
    """
    passed = PASSED | OUR_PATH if same_python else PASSED
    return {name: value for name, value in variables.items() if name in passed or name.startswith(PASSED_PREFIXES)}
