"""Read and write fitted scikit-learn estimators: skops with a list of types of our own, pickles only when trusted.

A skops file names types, and reading it calls `__new__`, `__setstate__` or the type itself with values from the file.
So the list holds single names, never whole packages: `numpy.lib._datasource.DataSource`, for one, removes a folder of
the file's choice when it is collected, and `numpy.load` reads pickles. skops itself trusts all public estimators,
ufuncs and dtypes; below is what fitted estimators hold besides.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import joblib
from skops import io as skops_io
from skops.io.exceptions import UnsupportedTypeException

from mlstream.errors import VersionLoadError
from mlstream.versions.reference import PICKLE_SUFFIXES, check_pickle
from mlstream.versions.stable import stable_bytes

_DISTANCES = (
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Kulsinski Mahalanobis Manhattan Matching "
    "Minkowski RogersTanimoto RussellRao SEuclidean SokalMichener SokalSneath"
)
_KERNELS = (
    "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF "
    "RationalQuadratic Sum WhiteKernel"
)
_SPLITTERS = (
    "GroupKFold GroupShuffleSplit KFold LeaveOneOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit "
    "StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit"
)
TRUSTED_TYPES = frozenset(
    {
        "builtins.object",
        "functools.partial",
        "numpy.dtype",
        "numpy.mean",
        "numpy.number",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._interpolate.interp1d",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_matrix",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer._RemainderColsList",  # 1.5 to 1.7: a list that warns
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._classification.log_loss",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.validation.check_array",
        *(f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _DISTANCES.split() for bits in (32, 64)),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS.split()),
        *(f"sklearn.model_selection._split.{name}" for name in _SPLITTERS.split()),
    }
)


def load_estimator(path: Path, *, digest: str, trust: bool, where: str) -> Any:
    """The estimator in a file.

    Args:
        path: a .skops, .joblib or .pkl file.
        digest: SHA-256 that the file must have, so that what is loaded is what was digested.
        trust: the configuration says that whoever wrote the file may run code here.
        where: the version, for messages.

    Raises:
        VersionLoadError: the file changed, is a pickle or holds types that are not trusted, or cannot be read.
    """
    is_pickle = path.suffix in PICKLE_SUFFIXES
    check_pickle(path, trust=trust, where=where)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise VersionLoadError(
            f"{where}: {path.name} changed while the version was being loaded", hint="run again", where=where
        )
    try:
        return joblib.load(io.BytesIO(data)) if is_pickle else _load_skops(data, path.name, trust=trust, where=where)
    except VersionLoadError:
        raise
    except Exception as exc:  # a pickle may raise anything at all; mostly it was made with another scikit-learn
        sidecar = path.with_name(f"{path.name}.json")
        told = f" ({sidecar.name} says what made it)" if sidecar.is_file() else ""
        raise VersionLoadError(
            f"{where}: {path.name} cannot be read: {type(exc).__name__}: {exc}",
            hint=f"make it again with the installed scikit-learn{told}",
            where=where,
        ) from exc


def dump_estimator(estimator: Any, name: str, *, trust: bool, where: str) -> bytes:
    """A fitted estimator as the bytes of a file with that name, which `load_estimator` will read.

    Raises:
        VersionLoadError: skops cannot write it, or reading it needs `trust: true`, which is not set.
    """
    if name.endswith(PICKLE_SUFFIXES):
        check_pickle(Path(name), trust=trust, where=where)
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer)
        return buffer.getvalue()
    try:
        data = skops_io.dumps(estimator)
    except UnsupportedTypeException as exc:
        raise VersionLoadError(
            f"{where}: skops cannot write a {type(estimator).__name__}: {exc}",
            hint="name a .joblib file in `model:` and set `trust: true`",
            where=where,
        ) from exc
    _check_types(data, name, trust=trust, where=where)
    return stable_bytes(data)


def listed_types(data: bytes) -> list[str]:
    """The types in a skops file that skops reads only when it is told that they are trusted."""
    return sorted(skops_io.get_untrusted_types(data=data))


def _load_skops(data: bytes, name: str, *, trust: bool, where: str) -> Any:
    unknown = _check_types(data, name, trust=trust, where=where)
    return skops_io.loads(data, trusted=sorted(TRUSTED_TYPES.union(unknown)))


def _check_types(data: bytes, name: str, *, trust: bool, where: str) -> list[str]:
    """The types in a file that are not on the list; refused unless it is trusted."""
    unknown = sorted(set(listed_types(data)) - TRUSTED_TYPES)
    if unknown and not trust:
        raise VersionLoadError(
            f"{where}: {name} holds types that are not trusted: {', '.join(unknown)}",
            hint=f"set `trust: true` for {where} if you made the file yourself",
            where=where,
            types=unknown,
        )
    return unknown
