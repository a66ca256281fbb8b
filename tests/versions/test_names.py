"""A name that the code does not have is found out before anything runs; one that it may have is not refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.versions import resolve_version
from mlstream.versions.names import check_name
from mlstream.versions.predictor import Predictor

Experiment = Callable[..., ExperimentConfig]
DEAD = "raise SystemExit('this code was run')\n"
FORMS = [
    "def make(): ...",
    "async def make(): ...",
    "class make: ...",
    "make = print",
    "make: object = print",
    "first, (make, *rest) = print, (print,)",
    "[first, *make] = print, print",
    "if (make := print): ...",
    "x = [make := each for each in (print,)]",
    "for make in (print,): ...",
    "with open(__file__) as make: ...",
    "try: ...\nexcept OSError as make: ...",
    "try:\n    import fast\nexcept ImportError:\n    def make(): ...",
    "match print:\n    case make: ...",
    "match [print]:\n    case [*make]: ...",
    "match {}:\n    case {**make}: ...",
    "import make",
    "import make.inner",
    "import shop.model as make",
    "from shop.model import make",
    "from shop.model import Scale as make",
    "from shop.model import *",
    "def build():\n    global make\n    make = print\nbuild()",
    "globals()['make'] = print",
    "import sys\nsys.modules[__name__].make = print",
    "def __getattr__(name): ...",
    "from shop.model import getter as __getattr__",
]


@pytest.mark.parametrize("text", FORMS)
def test_a_module_has_what_any_statement_may_bind(tmp_path: Path, text: str) -> None:
    file = tmp_path / "model.py"
    file.write_text(text)
    check_name(file, "make", [], shown="model.py", where="v")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("def build():\n    make = 1\n", "it has: build"),
        ("class Model:\n    def make(self): ...\n", "it has: Model"),
        ("class Model:\n    def make(self):\n        self.make = 1\n", "it has: Model"),
        ("x = [make for make in ()]\n", "it has: x"),
        ("make_it = lambda make: make\nimport numpy as np\n", "did you mean 'make_it'?"),
        ("import numpy as np\nfrom pathlib import Path\ndef b(): ...\ndef a(): ...\nC = 1\n", "it has: a, b"),
        ("from make import x\nimport make as y\n", "it has: x, y"),
        ("print('make')\n", "it has: no names at all"),
        ("_make = 1\n", "it has: no names at all"),
    ],
)
def test_a_name_that_no_statement_binds_is_refused_with_those_that_there_are(
    tmp_path: Path, text: str, hint: str
) -> None:
    file = tmp_path / "model.py"
    file.write_text(text + DEAD)
    with pytest.raises(VersionLoadError) as caught:
        check_name(file, "make", [], shown="shop/model.py", where="versions.v1.model")
    assert (caught.value.message, caught.value.hint) == ("versions.v1.model: shop/model.py has no 'make'", hint)


@pytest.mark.parametrize(
    "text", ["import model\nmodel.make = print\n", "import model\nsetattr(model, 'make', print)\n"]
)
def test_another_module_may_give_it_the_name(tmp_path: Path, text: str) -> None:
    file, other = tmp_path / "model.py", tmp_path / "other.py"
    file.write_text("import other\n")
    other.write_text(text)
    check_name(file, "make", [other], shown="model.py", where="v")
    other.write_text("import model\nprint(model.make)\n")
    with pytest.raises(VersionLoadError, match="has no 'make'"):
        check_name(file, "make", [other], shown="model.py", where="v")


def test_a_module_of_a_package_is_a_name_of_it(experiment: Experiment, project: Path) -> None:
    (project / "shop" / "__init__.py").write_text("import shop.model\n")
    with pytest.raises(VersionLoadError, match=r"^version v1: model is a module, which cannot be called"):
        resolve_version(experiment(model="shop:model"), "v1").load()
    with pytest.raises(VersionLoadError, match=r"^versions\.v1\.model: shop/__init__\.py has no 'mode'"):
        resolve_version(experiment(model="shop:mode"), "v1")


@pytest.mark.parametrize(
    ("model", "shown"),
    [("shop/dead.py:mak", "shop/dead.py"), ("shop.dead:mak", "shop/dead.py"), ("iniconfig:IniConfg", "iniconfig/")],
)
def test_it_is_said_when_the_version_is_resolved_and_no_code_has_run(
    experiment: Experiment, project: Path, model: str, shown: str
) -> None:
    (project / "shop" / "dead.py").write_text(f"def make(): ...\n{DEAD}")
    with pytest.raises(VersionLoadError, match=rf"^versions\.v1\.model: {shown}\S* has no '\w+'; did you mean '\w+'\?"):
        resolve_version(experiment(model=model), "v1")


def test_it_is_said_before_an_environment_is_built(experiment: Experiment) -> None:
    with pytest.raises(VersionLoadError, match=r"^versions\.v1\.environment: there is no file nowhere\.txt"):
        resolve_version(experiment(environment="nowhere.txt"), "v1")
    with pytest.raises(VersionLoadError, match=r"^versions\.v1\.model: shop/model\.py has no 'mak'; did you mean"):
        resolve_version(experiment(model="shop/model.py:mak", environment="nowhere.txt"), "v1")


def test_a_name_that_appears_when_the_code_runs_is_loaded(experiment: Experiment, project: Path) -> None:
    (project / "shop" / "late.py").write_text("from shop.features import *\nfrom shop.model import *\n")
    assert isinstance(resolve_version(experiment(model="shop/late.py:make"), "v1").load(), Predictor)
    with pytest.raises(VersionLoadError, match=r"^version v1: shop/late\.py has no 'mak'; did you mean 'make'\?"):
        resolve_version(experiment(model="shop/late.py:mak"), "v1").load()
