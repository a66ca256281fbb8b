"""The forms in which a model of MLflow's is named."""

from __future__ import annotations

import pytest

from mlstream.errors import VersionLoadError
from mlstream.registry.uri import ModelUri, is_model_uri, parse_model_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:/delays/3", {"name": "delays", "version": "3"}),
        ("models:/main.ml.delays/12", {"name": "main.ml.delays", "version": "12"}),
        ("models:/delays@champion", {"name": "delays", "alias": "champion"}),
        ("models:/m-0123abcd", {"model_id": "m-0123abcd"}),
        ("runs:/0123abcd/model", {"run_id": "0123abcd", "path": "model"}),
        ("runs:/0123abcd/models/first", {"run_id": "0123abcd", "path": "models/first"}),
    ],
)
def test_a_model_is_named_in_one_of_these_forms(text: str, expected: dict[str, str]) -> None:
    assert is_model_uri(text)
    assert parse_model_uri(text, where="v") == ModelUri(text, **expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:/delays", r"v: 'models:/delays' is no model of MLflow's; write models:/NAME/3"),
        ("models://delays/3", "is no model of MLflow's"),
        ("models:/delays/0", "is no model of MLflow's"),
        ("models:/delays/3/model.pkl", "is no model of MLflow's"),
        ("models:/de'lays/3", "is no model of MLflow's"),
        ("runs:/0123abcd", "is no model of MLflow's"),
        ("runs:/0123abcd/../other", "is no model of MLflow's"),
        ("models:/delays/latest", r"names what may be another model tomorrow; name a version \(models:/delays/3\)"),
        ("models:/delays/Production", r"or an alias \(models:/delays@champion\)"),
    ],
)
def test_another_form_is_refused_with_those_that_will_do(text: str, message: str) -> None:
    assert is_model_uri(text)
    with pytest.raises(VersionLoadError, match=message):
        parse_model_uri(text, where="v")


def test_code_and_files_are_no_such_names() -> None:
    assert not any(map(is_model_uri, ("models/fitted.skops", "shop/models.py:Linear", "models.linear:make")))
