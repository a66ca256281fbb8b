"""The forms in which a model of MLflow's is named. Pure: asks no MLflow.

models:/NAME/3            a version of a registered model
models:/NAME@champion     the version that an alias points to; it is looked up once for a run
models:/m-0123abcd…       a logged model, registered or not
runs:/RUN/path            what a run logged under a path
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlstream.errors import VersionLoadError

_NAME = r"(?P<name>[^/@'\"`:]+)"
_VERSION = re.compile(rf"models:/{_NAME}/(?P<version>[1-9]\d*)")
_ALIAS = re.compile(rf"models:/{_NAME}@(?P<alias>[^/@'\"`:]+)")
_LOGGED = re.compile(r"models:/(?P<model_id>m-[0-9A-Za-z-]+)")
_RUN = re.compile(r"runs:/(?P<run_id>[0-9A-Za-z_-]+)/(?P<path>[^/\0]+(?:/[^/\0]+)*)")
_MOVING = re.compile(rf"models:/{_NAME}/(?P<stage>latest|[A-Za-z]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelUri:
    """What names a model of MLflow's; fields that its form has not are None.

    Attributes:
        text: all of it.
        name: the registered model's.
        version: the number of the registered version.
        alias: what points to a version.
        model_id: the logged model's.
        run_id: the run's.
        path: in the run's artifacts, or the name of a model that the run logged.
    """

    text: str
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    model_id: str | None = None
    run_id: str | None = None
    path: str | None = None


def is_model_uri(text: str) -> bool:
    """Whether a text means a model of MLflow's, in a form that is known or not."""
    return text.startswith(("models:", "runs:"))


def parse_model_uri(text: str, *, where: str) -> ModelUri:
    """What a text names.

    Args:
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: it is of none of the forms.
    """
    for form in (_LOGGED, _VERSION, _ALIAS, _RUN):
        match = form.fullmatch(text)
        if match is not None and ".." not in text.split("/"):
            return ModelUri(text, **match.groupdict())
    moving = _MOVING.fullmatch(text)
    if moving is not None:
        raise VersionLoadError(
            f"{where}: {text!r} names what may be another model tomorrow",
            hint=f"name a version (models:/{moving['name']}/3) or an alias (models:/{moving['name']}@champion)",
            where=where,
        )
    raise VersionLoadError(
        f"{where}: {text!r} is no model of MLflow's",
        hint="write models:/NAME/3, models:/NAME@alias, models:/m-… or runs:/RUN/path",
        where=where,
    )
