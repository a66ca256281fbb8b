"""The names that users may rely on: a change here is a change of the interface."""

from __future__ import annotations

import inspect

import pytest

import mlstream
from mlstream import errors
from mlstream.errors import MlstreamError

PUBLIC = {
    "snapshot",
    "open_snapshot",
    "pull_snapshot",
    "Snapshot",
    "run",
    "open_run",
    "Run",
    "compare",
    "open_comparison",
    "verify_comparison",
    "Comparison",
    "publish",
    "Connection",
    "find_connection",
    "ExperimentConfig",
    "load_config",
    "MlstreamError",
    "errors",
}


def test_the_public_names_are_these() -> None:
    assert set(mlstream.__all__) == PUBLIC
    assert len(mlstream.__all__) == len(set(mlstream.__all__))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(mlstream, name)
    assert inspect.getdoc(value), f"mlstream.{name} has no docstring"
    assert name in dir(mlstream)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'snapshoot'"):
        _ = mlstream.snapshoot


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert mlstream.__version__ == version("mlstream")


def error_types() -> list[type[MlstreamError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MlstreamError)]


@pytest.mark.parametrize("kind", error_types(), ids=lambda kind: kind.__name__)
def test_every_error_is_drawn_in_the_tree(kind: type[MlstreamError]) -> None:
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__


def test_an_error_holds_its_facts_and_travels_between_processes() -> None:
    import pickle

    error = errors.OffsetOutOfRange(
        "ticks[0]: asked from 100, the broker keeps 120 onward", hint="use --from 120", start=100
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.OffsetOutOfRange
    assert (again.start, again.hint) == (100, "use --from 120")
    assert str(again) == "ticks[0]: asked from 100, the broker keeps 120 onward; use --from 120"
    with pytest.raises(AttributeError, match="nothing"):
        _ = again.nothing


def test_exit_codes_are_those_of_the_table() -> None:
    codes = {kind.__name__: kind.exit_code for kind in error_types() if kind.exit_code != 1}
    assert codes == {"UsageError": 2, "GateFailed": 3, "Inconclusive": 4}
