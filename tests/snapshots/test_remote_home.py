"""A home at a URL, on a real S3 server: what one machine makes another finds, and the store decides who is first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.errors import IntegrityError, NameTaken, StoreError, UsageError
from mlstream.home import Home, find_home
from mlstream.snapshots import beside
from mlstream.snapshots.names import remove, tag
from mlstream.snapshots.protection import keep, kept_until
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote_home import Mirror
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import list_snapshots, open_snapshot
from mlstream.snapshots.store import Store
from tests.conftest import Called
from tests.snapshots.forgetful_server import forgetful_server
from tests.snapshots.making import make_snapshot, plain
from tests.snapshots.oracle import recomputed_id
from tests.snapshots.s3_server import S3Server

Machine = Callable[[str], Home]


@pytest.fixture
def machine(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The home of the test's URL on a machine of that name: each has a cache of its own."""

    def on(name: str) -> Home:
        monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / name))
        monkeypatch.setenv("MLSTREAM_HOME", s3)
        return find_home()

    return on


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up soon."""
    monkeypatch.setattr("mlstream.snapshots.remote_objects._RETRIES", 0)


def test_what_one_machine_makes_another_one_finds(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    assert here.url == there.url
    assert here.path != there.path
    made = make_snapshot(here, "ticks", {"a": {0: plain(3000), 1: plain(5)}})
    found = open_snapshot("ticks", home=there)
    assert found == made
    assert found.cuts() == made.cuts()
    assert not (there.path / "objects").exists()  # nothing was read yet
    assert found.scan("a").collect().equals(made.scan("a").collect())
    assert found.verify(deep=True).rows == 3005
    assert recomputed_id(there.path, found.id) == made.id
    assert [each.id for each in list_snapshots(there)] == [made.id]


def test_what_is_at_the_url_is_a_store_of_the_usual_form(machine: Machine, s3: str, tmp_path: Path) -> None:
    made = make_snapshot(machine("here"), "ticks", {"a": {0: plain(3000)}})
    paths = {
        found.path for folder in ("refs", "manifests", "storage", "objects") for found in open_remote(s3).list(folder)
    }
    digest = next(iter(made.storage.objects))
    assert paths == {
        "refs/ticks",
        f"manifests/{made.id}.json",
        f"storage/{made.id}.json",
        f"objects/{digest[:2]}/{digest}",
    }
    pull("ticks", open_remote(s3), home=Home(tmp_path / "folder"))
    assert open_snapshot("ticks", home=tmp_path / "folder") == made


def test_names_and_protections_are_those_of_the_store(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    made = make_snapshot(here, "ticks", {"a": {0: plain(30)}})
    tag(Store(there), "ticks", "best")
    assert open_snapshot("best", home=here).names == ("best", "ticks")
    keep(Store(there), "best", for_s=3600)
    assert list(kept_until(Store(here))) == [made.id]
    remove(Store(here), ["ticks"])
    assert open_snapshot(made.id, home=there).names == ("best",)


def test_of_two_machines_that_give_a_name_at_once_one_wins_and_nothing_is_lost(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    other = make_snapshot(there, "other", {"a": {0: plain(31)}})
    late = Store(there)  # opened before the name is given, so it does not know of it
    first = make_snapshot(here, "ticks", {"a": {0: plain(30)}})
    with late.staging() as staged, pytest.raises(NameTaken, match=f"given to another snapshot .* .id {first.id[:12]}"):
        late.set_ref("ticks", other.id, staged=staged, new=True)
    assert open_snapshot("ticks", home=there) == first
    assert open_snapshot(other.id, home=here) == other


def test_the_same_content_frozen_by_two_machines_is_one_snapshot(machine: Machine, s3: str) -> None:
    rows = plain(3000)
    one = make_snapshot(machine("here"), "one", {"a": {0: rows}})
    two = make_snapshot(machine("there"), "two", {"a": {0: rows}})
    assert one == two
    assert len(open_remote(s3).list("objects")) == 1
    assert set(open_snapshot("one", home=machine("here")).names) == {"one", "two"}


def test_a_cache_may_be_deleted(machine: Machine) -> None:
    home = machine("here")
    made = make_snapshot(home, "ticks", {"a": {0: plain(3000)}})
    shutil.rmtree(home.path)
    assert open_snapshot("ticks", home=home) == made
    assert open_snapshot("ticks", home=home).scan("a").collect().height == 3000
    (home.path / "mirror.json").write_text("{")
    assert open_snapshot("ticks", home=home) == made


def test_what_a_cache_has_too_much_is_not_the_store_s(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    made = make_snapshot(here, "ticks", {"a": {0: plain(30)}})
    Store(there)
    Store(here).drop_ref("ticks")
    assert Store(there).refs() == {}
    (there.path / "refs" / "left").write_text(f"{made.id}\n")
    assert Store(there).refs() == {}


def test_verify_reads_what_the_store_has_now(machine: Machine, s3: str) -> None:
    home = machine("here")
    made = make_snapshot(home, "ticks", {"a": {0: plain(3000)}})
    assert made.verify().ok
    remote, digest = open_remote(s3), next(iter(made.storage.objects))
    path = f"objects/{digest[:2]}/{digest}"
    whole = made.store.object(digest).read_bytes()
    remote.put(path, whole[:-1] + b"X")
    with pytest.raises(IntegrityError, match=f"{digest}: its bytes are not those of its name"):
        made.verify()
    assert made.scan("a").collect().height == 3000  # the copy that this machine has is sound
    remote.delete(path)
    with pytest.raises(IntegrityError, match=f"{digest}: it is missing in s3://"):
        made.verify()
    push(make_snapshot(Home(home.path.parent / "folder"), "again", {"a": {0: plain(3000)}}), remote)
    assert made.verify(deep=True).ok


def test_snapshots_are_pushed_from_and_pulled_into_a_home_at_a_url(machine: Machine, home: Home, s3: str) -> None:
    elsewhere = make_snapshot(home, "theirs", {"a": {0: plain(3000)}, "b": {0: plain(7)}})
    mine = make_snapshot(machine("here"), "mine", {"a": {0: plain(3000)}})
    came = pull("theirs", open_remote(home.path), home=machine("here"))
    assert (came.objects, came.there) == (1, 1)
    assert open_snapshot("theirs", home=machine("there")).verify(deep=True).rows == elsewhere.rows
    push(open_snapshot("mine", home=machine("there")), open_remote(home.path), name="mine")
    assert open_snapshot("mine", home=home).verify(deep=True).ok
    assert open_snapshot("mine", home=home) == mine


def test_gc_of_a_store_at_a_url_is_refused_by_name(machine: Machine, bare_cli: Callable[..., Called], s3: str) -> None:
    machine("here")
    refused = bare_cli("--home", s3, "snapshot", "gc", "--yes")
    assert refused.exit_code == 1
    assert f"{s3}: gc works in a store that is a folder" in refused.stderr


def test_a_record_that_could_not_be_sent_is_sent_later(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = machine("here"), machine("there")
    record = here.runs / f"{'ab' * 32}.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"status": "incomplete"}')
    mirror = Mirror(here)
    mirror.send([record])
    record.write_text('{"status": "complete"}')
    with monkeypatch.context() as patched:
        patched.setattr(mirror.remote, "put", lambda path, data: (_ for _ in ()).throw(StoreError("no network")))
        with pytest.raises(StoreError, match="no network"):
            mirror.send([record])
    Mirror(there).refresh()
    assert "incomplete" in (there.runs / record.name).read_text()
    Mirror(here).refresh()
    Mirror(there).refresh()
    assert "incomplete" not in (there.runs / record.name).read_text()
    assert record.read_text() == (there.runs / record.name).read_text()


def test_of_a_long_log_the_end_is_sent_and_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "MOST_BYTES", 10)
    a, b = machine("a"), machine("b")
    theirs = b.runs / "r" / "v1.log"
    for text in ("0123456789", "one\ntwo\nthree\n"):
        ours = a.runs / "r" / "v1.log"
        ours.parent.mkdir(parents=True, exist_ok=True)
        ours.write_text(text)
        beside.send_file(a, ours)
        assert beside.fetch_file(b, theirs)
        cut = "" if len(text) == 10 else "mlstream: 4 bytes before this were not sent\n"
        assert theirs.read_text() == cut + text[-10:]
        assert [file.name for file in theirs.parent.iterdir()] == ["v1.log"]
        theirs.unlink()
    beside.remove_files(b, theirs.parent)
    assert not beside.fetch_file(b, theirs)


# What is no home


@pytest.mark.parametrize("url", ["memory://x/store", "sftp://host/store", "https://host/store", "ftp://host/store"])
def test_a_url_that_does_not_say_whether_it_writes_under_conditions_is_no_home(url: str) -> None:
    with pytest.raises(StoreError, match=r"a home must be a store that writes under conditions.*begins with s3://"):
        Store(find_home(url))


def test_a_server_that_does_not_write_under_conditions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forgetful_server() as server:
        for name, value in {**server.environment, "MLSTREAM_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        home = find_home("s3://bucket/store")
        with pytest.raises(StoreError, match=r"overwrites what is only to be written when it is new.*If-None-Match"):
            make_snapshot(home, "ticks", {"a": {0: plain(3)}})
        assert server.objects == {}  # also the probe is gone
        assert Store(home).refs() == {}  # what it holds may be read


def test_who_may_only_read_can_read_and_is_told_so_when_he_writes(
    machine: Machine, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_snapshot(machine("here"), "ticks", {"a": {0: plain(3000)}})
    for name, value in s3_server.readers_environment.items():
        monkeypatch.setenv(name, value)
    home = machine("reader")
    assert open_snapshot("ticks", home=home).scan("a").collect().height == 3000
    with pytest.raises(StoreError, match=r"AccessDenied.*check the credentials' rights on the bucket"):
        tag(Store(home), "ticks", "mine")
    assert open_snapshot(made.id, home=home).names == ("ticks",)


@pytest.mark.usefixtures("no_patience")
def test_a_server_that_does_not_answer_and_wrong_credentials_are_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = machine("here")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(
        StoreError, match=r"SignatureDoesNotMatch.*check the credentials, for example AWS_ACCESS_KEY_ID"
    ):
        Store(home)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        StoreError, match=r"the store cannot be used: .*check the endpoint, for example AWS_ENDPOINT_URL"
    ):
        Store(home)
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreError, match=r"the endpoint has no TLS; AWS_ALLOW_HTTP=true allows that"):
        Store(home)
    assert not (home.path / "refs").exists()


def test_without_its_driver_the_extra_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(StoreError, match=r"is not installed; pip install 'mlstream\[s3\]'"):
        open_remote(s3)
    with pytest.raises(StoreError, match=r"pip install 'mlstream\[s3\]'"):
        Store(find_home(s3))


# Where a home is named


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(UsageError, match="would be written into records") as refused:
        find_home("s3://key:secret@bucket/store")
    assert "secret" not in str(refused.value)


def test_a_file_names_the_home_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLSTREAM_HOME", raising=False)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    named = tmp_path / ".mlstream"
    named.write_text("# where the team keeps its snapshots\ns3://bucket/team/\n")
    assert find_home().url == "s3://bucket/team"
    named.write_text("../elsewhere\n")
    assert find_home() == Home(tmp_path.parent / "elsewhere")
    named.write_text(f"file://{tmp_path}/store")
    assert find_home() == Home(tmp_path / "store")
    named.write_text("a\nb\n")
    with pytest.raises(UsageError, match="it holds 2 lines, and should name one home"):
        find_home()
