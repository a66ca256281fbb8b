"""What an environment is to hold: files that say it, what is locked and what is added. Packages are made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.errors import VersionLoadError
from mlstream.versions import surroundings
from mlstream.versions.environments import Pinned, pin_environment
from mlstream.versions.reference import CodeReference
from mlstream.versions.requirements import read_requirements
from mlstream.versions.sources import find_sources
from mlstream.versions.uv import run_uv
from tests.versions.packages import write_wheel

WHERE = "versions.v1.environment"
HEAD = "--no-index\n--find-links wheels\n"
PROJECT = """\
[project]
name = "shop"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["scales"]

[tool.uv]
no-index = true
find-links = ["wheels"]
"""
Pin = Callable[..., Pinned]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a folder of packages and files that name them."""
    root = tmp_path / "project"
    write_wheel(root / "wheels", "scales", "1.0", needs=["weights"])
    write_wheel(root / "wheels", "weights", "2.0")
    write_wheel(root / "wheels", "weights", "3.0")
    (root / "requirements.txt").write_text(f"{HEAD}scales\nweights<3\n")
    (root / "pyproject.toml").write_text(PROJECT)
    return root


@pytest.fixture
def pin(root: Path) -> Pin:
    """Pin an environment of the project."""

    def pin(file: str = "requirements.txt", *, needs: tuple[str, ...] = ()) -> Pinned:
        return pin_environment(file, root=root, where=WHERE, needs=needs)

    return pin


def lock(root: Path) -> Path:
    """The project's `uv.lock`, as `uv lock` writes it."""
    run_uv(["lock", "--quiet"], folder=root, what="lock", where="here")
    return root / "uv.lock"


def refusal(pin: Pin, file: str = "requirements.txt", **given: tuple[str, ...]) -> str:
    """What is said when it cannot be pinned."""
    with pytest.raises(VersionLoadError) as caught:
        pin(file, **given)
    return str(caught.value)


def bare(pinned: Pinned) -> list[str]:
    return [line.partition(" --hash")[0] for line in pinned.pins.locked]


def test_requirements_are_pinned_with_what_they_need(pin: Pin) -> None:
    assert pin().pins.locked == ("scales==1.0", "weights==2.0")


def test_comments_and_the_order_of_lines_are_no_part_of_the_digest(pin: Pin, root: Path) -> None:
    before = pin().pins.digest
    (root / "requirements.txt").write_text(f"# what we need\n{HEAD}weights<3   # not yet\n\nscales\n")
    assert pin().pins.digest == before
    (root / "requirements.txt").write_text(f"{HEAD}scales\n")
    assert pin().pins.digest != before


def test_files_that_a_file_names_count(pin: Pin, root: Path) -> None:
    (root / "requirements.txt").write_text(f"{HEAD}-r more.txt\n-c limits.txt\n")
    (root / "more.txt").write_text("scales\n")
    (root / "limits.txt").write_text("weights<3\n")
    assert pin().pins.locked == ("scales==1.0", "weights==2.0")
    (root / "limits.txt").write_text("weights>2\n")
    assert pin().pins.locked == ("scales==1.0", "weights==3.0")


def test_a_lock_decides_whatever_is_released_since(pin: Pin, root: Path) -> None:
    lock(root)
    before = pin("uv.lock")
    assert bare(before) == ["scales==1.0", "weights==3.0"]
    write_wheel(root / "wheels", "weights", "3.1")
    assert pin("uv.lock").pins == before.pins
    lock(root)
    assert pin("uv.lock").pins == before.pins  # uv keeps to it, too
    run_uv(["lock", "--upgrade", "--quiet"], folder=root, what="lock", where="here")
    assert bare(pin("uv.lock")) == ["scales==1.0", "weights==3.1"]


def test_a_project_is_taken_by_its_lock_where_it_has_one(pin: Pin, root: Path) -> None:
    assert bare(pin("pyproject.toml")) == ["scales==1.0", "weights==3.0"]
    lock(root)
    write_wheel(root / "wheels", "weights", "3.1")
    found = pin("pyproject.toml")
    assert (found.requirements.name, bare(found)) == ("uv.lock", ["scales==1.0", "weights==3.0"])


def test_a_file_with_digests_is_a_lock_of_its_own(pin: Pin, root: Path) -> None:
    hashes = {name: write_wheel(root / "wheels", name, "4.0") for name in ("scales", "weights")}
    lines = "".join(f"{name}==4.0 \\\n    --hash=sha256:{found}\n" for name, found in hashes.items())
    (root / "requirements.txt").write_text(HEAD + lines)
    assert pin().pins.locked == tuple(f"{name}==4.0 --hash=sha256:{found}" for name, found in sorted(hashes.items()))
    (root / "requirements.txt").write_text(HEAD + lines.replace("==4.0", ">=4.0"))
    assert "'scales>=4.0' has no exact release" in refusal(pin)


def test_what_the_host_needs_is_added_beside_what_is_locked(pin: Pin, root: Path) -> None:
    write_wheel(root / "wheels", "host", "1.0", needs=["weights>=1", "pipes"])
    write_wheel(root / "wheels", "pipes", "5.0")
    found = pin(needs=("host>=1",))
    assert found.pins.locked == ("scales==1.0", "weights==2.0")
    assert found.pins.added == ("host==1.0", "pipes==5.0")
    assert found.pins.holds("weights")
    assert not found.pins.holds("host")


def test_what_is_locked_and_needed_is_not_added(pin: Pin) -> None:
    found = pin(needs=("weights>=1",))
    assert found.pins.added == ()
    assert found.pins.digest == pin().pins.digest


def test_what_is_needed_changes_no_locked_release(pin: Pin) -> None:
    message = refusal(pin, needs=("weights>=3",))
    assert message.startswith(f"{WHERE}: uv could not put what the model's process needs (weights>=3) beside what req")
    assert "weights==2.0" in message
    assert "its releases are not changed here" in message


def test_our_own_releases_do_not_count_for_a_version_with_an_environment(
    pin: Pin, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unused() -> dict[str, str]:
        raise AssertionError("this process's packages were asked for")

    monkeypatch.setattr(surroundings, "environment", unused)
    monkeypatch.setattr(surroundings, "HOST_NEEDS", ())
    reference = CodeReference("model", root / "model.py", "make")
    found = surroundings.surroundings_of("requirements.txt", reference, root=root, where="versions.v1")
    assert found.digest == pin().pins.digest
    assert found.python is not None


def test_code_is_the_projects_where_the_environment_has_no_package_of_that_name(root: Path) -> None:
    (root / "shop").mkdir()
    (root / "shop" / "model.py").write_text("import numpy\n\nmake = numpy.array\n")
    (root / "shop" / "numpy.py").write_text("")
    reference = CodeReference("shop.model", root / "shop" / "model.py", "make")
    assert set(find_sources(reference, root=root, where=WHERE).files) == {"shop/model.py"}
    theirs = find_sources(reference, root=root, where=WHERE, site=root / "wheels")
    assert set(theirs.files) == {"shop/model.py", "shop/numpy.py"}


def test_a_release_that_nobody_has_is_named_in_the_words_of_uv(pin: Pin, root: Path) -> None:
    (root / "requirements.txt").write_text(f"{HEAD}scales==9\n")
    message = refusal(pin)
    assert message.startswith(f"{WHERE}: uv could not resolve requirements.txt:\n")
    assert "scales==9" in message


@pytest.mark.parametrize("line", ["./lib", "-e ./lib", "lib @ {folder}"])
def test_code_that_is_in_no_package_is_refused(pin: Pin, root: Path, line: str) -> None:
    (root / "lib").mkdir()
    (root / "lib" / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\n')
    (root / "requirements.txt").write_text(line.format(folder=(root / "lib").as_uri()) + "\n")
    message = refusal(pin)
    assert "a package in a folder, whose code is in no lock" in message
    assert "code below the project's root and its `src` is found without being installed" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("requirement.txt", "there is no file requirement.txt; did you mean 'requirements.txt'?"),
        ("../other.txt", "../other.txt is outside the project"),
        ("shop.py", "'shop.py' is no environment that can be built; name a uv.lock"),
        ("uv.lock", "there is no file uv.lock"),
        ("nothing/pyproject.toml", "nothing/pyproject.toml has no [project], so it names no dependencies"),
        ("alone/uv.lock", "there is no pyproject.toml beside alone/uv.lock"),
        ("broken/pyproject.toml", "broken/pyproject.toml cannot be read"),
    ],
)
def test_a_file_that_will_not_do_is_named(pin: Pin, root: Path, name: str, said: str) -> None:
    for file, text in {
        "shop.py": "",
        "nothing/pyproject.toml": "[tool.ruff]\n",
        "alone/uv.lock": "version = 1\n",
        "broken/pyproject.toml": "[project\n",
    }.items():
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text(text)
    assert f"{WHERE}: {said}" in refusal(pin, name)


def test_a_python_that_the_machine_lacks_is_named(pin: Pin, root: Path) -> None:
    (root / "pyproject.toml").write_text(PROJECT.replace(">=3.11", ">=3.99"))
    message = refusal(pin, "pyproject.toml")
    assert message.startswith(f"{WHERE}: uv could not find Python >=3.99")
    assert "UV_PYTHON_DOWNLOADS=automatic" in message


def test_the_nearest_python_version_of_the_project_is_asked_for(pin: Pin, root: Path) -> None:
    (root / "envs").mkdir()
    (root / "envs" / "requirements.txt").write_text("")
    (root / ".python-version").write_text("# ours\n3.98\n")
    assert "uv could not find Python 3.98" in refusal(pin, "envs/requirements.txt")
    (root / "envs" / ".python-version").write_text("3.97\n")
    assert "uv could not find Python 3.97" in refusal(pin, "envs/requirements.txt")


def test_files_that_ask_for_different_pythons_are_refused(pin: Pin, root: Path) -> None:
    own = pin().interpreter.version
    (root / ".python-version").write_text(f"{own}\n")
    (root / "pyproject.toml").write_text(PROJECT.replace(">=3.11", f">{own}"))
    assert f"asks for Python {own}, and the environment for >{own}; make them agree" in refusal(pin, "pyproject.toml")


def test_what_a_requirements_file_says_is_read_as_its_tools_do(root: Path) -> None:
    (root / "requirements.txt").write_text(
        "--index-url http://127.0.0.1/simple\n--find-links=wheels\na==1; python_version<'4'  # why\nb @ https://h/b#egg=b\n"
        "-r more.txt\nc \\\n  >=1\n"
    )
    (root / "more.txt").write_text("d\n-r requirements.txt\n")
    found = read_requirements("requirements.txt", root=root, where=WHERE)
    assert found.packages == ("a==1; python_version<'4'", "b @ https://h/b#egg=b", "c >=1", "d")
    assert found.options == ("--index-url http://127.0.0.1/simple", f"--find-links {root / 'wheels'}")
    assert not found.has_hashes
