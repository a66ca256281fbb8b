"""The client of a schema registry: what it asks, what it takes for an answer, and what it says when there is none."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable

import pytest

from mlstream.errors import ConfigError, RegistryError
from mlstream.snapshots.content import SchemaContent, SchemaReference
from mlstream.snapshots.registry import Registry, RegistryAddress, find_registry
from tests.snapshots.registries import Answer, found, stand_in, unknown


def ask(schema_id: int, answer: Callable[[str, dict[str, str]], Answer]) -> SchemaContent | None:
    with stand_in(answer) as url, Registry(url) as registry:
        return registry.schema(schema_id)


def test_a_schema_without_a_type_is_avro_and_others_say_theirs() -> None:
    assert ask(7, lambda path, _: found(schema='"int"')) == SchemaContent(7, "AVRO", '"int"')
    assert ask(7, lambda path, _: found(schema="{}", schemaType="JSON")) == SchemaContent(7, "JSON", "{}")


def test_what_a_schema_refers_to_comes_with_it_dependencies_first_each_once() -> None:
    refers = {"name": "a.B", "subject": "b/value", "version": 2}
    deeper = {"name": "a.C", "subject": "c", "version": 1}
    answers = {
        "/schemas/ids/9": found(schema="top", references=[refers, deeper]),
        "/subjects/b%2Fvalue/versions/2?deleted=true": found(schema="b", references=[deeper]),
        "/subjects/c/versions/1?deleted=true": found(schema="c"),
    }
    asked: list[str] = []

    def answer(path: str, _: dict[str, str]) -> Answer:
        asked.append(path)
        return answers[path]

    got = ask(9, answer)
    assert got == SchemaContent(9, "AVRO", "top", (SchemaReference("a.C", "c"), SchemaReference("a.B", "b")))
    assert sorted(asked) == sorted(answers)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"/schemas/ids/1": (200, b"<html>")}, "its answer to /schemas/ids/1 is not a JSON object"),
        ({"/schemas/ids/1": (200, b"{}")}, "the registry answers without a schema"),
        ({"/schemas/ids/1": (404, b"no page")}, "there is something else at this address .404"),
        ({"/schemas/ids/1": (401, b"{}")}, "it refuses .401.; check the user and password"),
        ({"/schemas/ids/1": (500, b"{}")}, "it answers 500 to /schemas/ids/1"),
        ({"/schemas/ids/1": found(schema="x", references=[{"name": "n"}])}, "a reference that is none"),
        (
            {"/schemas/ids/1": found(schema="x", references=[{"name": "n", "subject": "gone", "version": 3}])},
            "schema 1 refers to n .gone version 3., which the registry does not have",
        ),
        (
            {
                "/schemas/ids/1": found(schema="x", references=[{"name": "n", "subject": "s", "version": 1}]),
                "/subjects/s/versions/1?deleted=true": found(
                    schema="s", references=[{"name": "m", "subject": "s", "version": 1}]
                ),
            },
            "s version 1 refers to itself",
        ),
        (
            {
                "/schemas/ids/1": found(
                    schema="x",
                    references=[
                        {"name": "n", "subject": "s", "version": 1},
                        {"name": "n", "subject": "s", "version": 2},
                    ],
                ),
                "/subjects/s/versions/1?deleted=true": found(schema="one"),
                "/subjects/s/versions/2?deleted=true": found(schema="two"),
            },
            "it refers to two different schemas by the name n",
        ),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_says_so(answers: dict[str, Answer], reason: str) -> None:
    with pytest.raises(RegistryError, match=reason):
        ask(1, lambda path, _: answers.get(path, unknown()))


def test_an_id_that_the_registry_does_not_have_is_none_and_asked_for_once() -> None:
    asked: list[str] = []

    def answer(path: str, _: dict[str, str]) -> Answer:
        asked.append(path)
        return unknown()

    with stand_in(answer) as url, Registry(url) as registry:
        assert registry.schema(5) is None
        assert registry.schema(5) is None
    assert asked == ["/schemas/ids/5"]


def test_a_registry_that_is_busy_is_asked_again() -> None:
    answers = [(503, b"{}"), (429, b"{}"), found(schema='"int"')]
    assert ask(1, lambda path, _: answers.pop(0)) == SchemaContent(1, "AVRO", '"int"')


def test_a_registry_that_is_not_there_is_named_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/"
        with Registry(url) as registry, pytest.raises(RegistryError) as caught:
            registry.schema(1)
    assert "it does not answer (Connection refused); check the address (--schema-registry" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "header"),
    [
        (RegistryAddress("http://HOST", user="me", password="p w"), f"Basic {base64.b64encode(b'me:p w').decode()}"),
        (RegistryAddress("http://me:p%20w@HOST"), f"Basic {base64.b64encode(b'me:p w').decode()}"),
        (RegistryAddress("http://HOST", token="t"), "Bearer t"),
        (RegistryAddress("http://HOST"), None),
    ],
)
def test_a_user_or_a_token_lets_us_in_and_is_not_printed(address: RegistryAddress, header: str | None) -> None:
    seen: list[str | None] = []

    def answer(_: str, headers: dict[str, str]) -> Answer:
        seen.append(headers.get("authorization"))
        return found(schema='"int"')

    with stand_in(answer) as url:
        there = RegistryAddress(url, user=address.user, password=address.password, token=address.token)
        with Registry(there) as registry:
            registry.schema(1)
            assert registry.url == url
    assert seen == [header]
    assert "p w" not in f"{address!r} {address}"
    assert "p%20w" not in f"{address!r} {address}"


@pytest.mark.parametrize("url", ["", "localhost:8081", "ftp://host", "http://", "http://h:x", "http://h/?a=b"])
def test_what_is_no_url_of_a_registry_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="schema registry: its address is not a URL"):
        RegistryAddress(url)


def test_the_url_that_is_given_counts_before_the_configuration_s_and_the_environment_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLSTREAM_SCHEMA_REGISTRY", raising=False)
    assert find_registry() is None
    monkeypatch.setenv("MLSTREAM_SCHEMA_REGISTRY", "http://environment")
    configured = RegistryAddress("http://configured")
    assert find_registry() == RegistryAddress("http://environment")
    assert find_registry(None, configured) == configured
    assert find_registry("http://given/", configured) == RegistryAddress("http://given")
