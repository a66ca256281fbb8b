"""Models of MLflow's, found and fetched; and what may be wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from mlstream.errors import TrackingError, VersionLoadError
from mlstream.home import Home
from mlstream.registry.model import FoundModel, find_model
from mlstream.registry.uri import parse_model_uri
from mlstream.runs.unused import find_unused, remove_unused
from tests.registry.conftest import Kept, client_of


def find(text: str, home: Home) -> FoundModel:
    return find_model(parse_model_uri(text, where="versions.v.model"), home=home, where="versions.v.model")


def files_of(kept: Kept, model_id: str) -> Path:
    """Where MLflow keeps a model's files."""
    return kept.home.mlflow_artifacts / "models" / model_id / "artifacts"


def test_version_alias_logged_model_and_path_of_a_run_are_the_same_model(logged: Kept) -> None:
    texts = ["models:/linear/1", "models:/linear@champion", f"models:/{logged.linear_id}"]
    found = [find(text, logged.home) for text in (*texts, f"runs:/{logged.run_id}/linear")]
    assert [one.pinned for one in found] == [texts[0], texts[0], texts[2], f"runs:/{logged.run_id}/linear"]
    assert len({one.digest for one in found}) == 1
    assert {one.model_id for one in found} == {logged.linear_id}
    assert {one.run_id for one in found} == {logged.run_id}
    assert [(one.name, one.version, one.alias) for one in found[:2]] == [
        ("linear", "1", None),
        ("linear", "1", "champion"),
    ]
    assert (found[0].flavor.kind, found[0].flavor.loader, found[0].flavor.file) == ("sklearn", "skops", "model.skops")


def test_what_is_fetched_is_what_mlflow_has_under_the_digest_of_all_of_it(logged: Kept) -> None:
    found = find("models:/linear/1", logged.home)
    theirs = files_of(logged, logged.linear_id)
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in theirs.iterdir() if path.is_file()}
    assert found.files == dict(sorted(expected.items()))
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == {
        path.name: path.read_bytes() for path in theirs.iterdir()
    }
    canonical = json.dumps(expected, sort_keys=True, separators=(",", ":")).encode()
    assert found.digest == hashlib.sha256(canonical).hexdigest() == found.folder.name


def test_an_alias_that_moves_is_another_model(logged: Kept) -> None:
    before = find("models:/linear@champion", logged.home)
    with client_of(logged.home) as client:
        client.set_registered_model_alias("linear", "champion", "2")
        try:
            after = find("models:/linear@champion", logged.home)
        finally:
            client.set_registered_model_alias("linear", "champion", "1")
    assert (before.pinned, after.pinned) == ("models:/linear/1", "models:/linear/2")
    assert before.digest != after.digest
    assert after.flavor.loader == "pickle"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:/liner/1", "MLflow has no registered model 'liner'; did you mean 'linear'?"),
        ("models:/linear/9", "the registered model 'linear' has no version 9; it has: 1, 2"),
        ("models:/linear@champ", "the registered model 'linear' has no alias 'champ'; did you mean 'champion'?"),
        (
            "models:/coded@champion",
            "the registered model 'coded' has no alias 'champion'; it has none: set it in MLflow",
        ),
        ("models:/m-00000000", "MLflow has no logged model m-00000000; look for its id"),
        ("runs:/00000000/linear", "MLflow has no run 00000000; copy the run's id"),
        ("runs:/RUN/linaer", "has nothing at linaer; did you mean 'linear'?"),
    ],
)
def test_what_mlflow_has_not_is_named_with_what_is_like_it(logged: Kept, text: str, message: str) -> None:
    with pytest.raises(VersionLoadError) as caught:
        find(text.replace("RUN", logged.run_id), logged.home)
    assert message in str(caught.value)
    assert str(caught.value).startswith("versions.v.model: ")


def test_where_nothing_is_registered_it_is_said_how_something_is(empty_store: Path, home: Home) -> None:
    home.path.mkdir()
    shutil.copy(empty_store, home.path)
    with pytest.raises(
        VersionLoadError,
        match=r"no registered model 'linear'; nothing is registered there yet: `mlstream train .* does$",
    ):
        find("models:/linear/1", home)


def test_a_store_that_is_not_there_is_not_made(home: Home) -> None:
    with pytest.raises(VersionLoadError, match=r"the MLflow store .* is not there; name the server with MLFLOW_TRACK"):
        find("models:/linear/1", home)
    assert not home.path.exists()


@pytest.mark.parametrize("text", ["models:/linear/1", "runs:/RUN/linear"])
def test_a_model_whose_files_are_gone_is_refused_though_it_was_fetched_before(kept: Kept, text: str) -> None:
    text = text.replace("RUN", kept.run_id)
    find(text, kept.home)
    shutil.rmtree(files_of(kept, kept.linear_id))
    with pytest.raises(VersionLoadError, match=f"the files of {text} are gone: there is no folder .*; log and reg"):
        find(text, kept.home)


def test_a_model_that_is_deleted_is_refused_though_it_was_fetched_before(logged: Kept) -> None:
    with client_of(logged.home) as client:
        version = client.create_model_version("linear", str(files_of(logged, logged.linear_id)), logged.run_id)
        text = f"models:/linear/{version.version}"
        find(text, logged.home)
        client.delete_model_version("linear", version.version)
    with pytest.raises(VersionLoadError, match=r"the registered model 'linear' has no version .*; it has: 1, 2"):
        find(text, logged.home)


@pytest.mark.parametrize("change", ["write", "add", "remove"])
def test_a_model_that_is_not_what_it_was_is_refused_until_that_is_accepted(kept: Kept, change: str) -> None:
    before = find("models:/linear/1", kept.home)
    file = files_of(kept, kept.linear_id) / ("extra.txt" if change == "add" else "conda.yaml")
    if change == "remove":
        file.unlink()
    else:
        file.write_text("something else")
    with pytest.raises(
        VersionLoadError, match=rf"models:/linear/1 is not the model that it was: {file.name} changed; .*remove (\S+)$"
    ) as caught:
        find("models:/linear/1", kept.home)
    Path(str(caught.value).rpartition("remove ")[2]).unlink()
    assert find("models:/linear/1", kept.home).digest != before.digest


def test_a_damaged_copy_is_refused_and_fetched_again_once_it_is_removed(logged: Kept) -> None:
    found = find("models:/linear/1", logged.home)
    file = found.folder / "model.skops"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(VersionLoadError, match=rf"copy of models:/linear/1 was changed: .*; remove {found.folder}"):
        find("models:/linear/1", logged.home)
    shutil.rmtree(found.folder)
    assert find("models:/linear/1", logged.home) == found


def test_a_fetched_model_that_nobody_uses_is_removed_from_the_cache_and_fetched_again(logged: Kept) -> None:
    found = find("models:/linear/1", logged.home)
    assert [kept.stays for kept in remove_unused(logged.home, unused_days=1)] == ["used lately"]
    os.utime(found.folder, (0, 0))
    (gone,) = remove_unused(logged.home, unused_days=1)
    assert (gone.kind, gone.folder, gone.stays) == ("model", found.folder, None)
    assert not found.folder.exists()
    assert find("models:/linear/1", logged.home) == found
    os.utime(found.folder, (0, 0))
    find("models:/linear/1", logged.home)
    assert [kept.stays for kept in find_unused(logged.home, unused_days=1)] == ["used lately"]


def test_a_link_in_a_model_is_not_followed(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not the model's")
    (files_of(kept, kept.linear_id) / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(VersionLoadError, match="models:/linear/1: link is no file of its own"):
        find("models:/linear/1", kept.home)


def test_what_a_fetch_left_that_was_cut_off_is_never_taken_for_a_model(logged: Kept) -> None:
    found = find("models:/linear/1", logged.home)
    part = found.folder.with_name(".part-cut")
    found.folder.rename(part)
    (part / "model.skops").unlink()
    assert find("models:/linear/1", logged.home) == found
    assert part.exists()  # another process may still be fetching


def test_a_server_that_does_not_answer_is_named_within_seconds(logged: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TrackingError, match=r"MLflow at http://…@127\.0\.0\.1:\d+ does not answer"):
            find("models:/linear/1", logged.home)
    assert time.monotonic() - began < 20
