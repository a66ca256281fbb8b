"""URLs of databases and requests: what they mean, what of them is shown, and that no error repeats a secret."""

from __future__ import annotations

import pytest

from mlstream.databases import TableRequest, parse_query, parse_table
from mlstream.databases.address import parse_address
from mlstream.errors import UsageError


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("postgresql://me:geheim@db.example:5433/shop", "postgresql://me@db.example:5433/shop"),
        ("postgres://db.example/shop", "postgresql://db.example/shop"),
        ("postgresql:///shop?host=/run/pg&password=geheim", "postgresql:///shop?host=/run/pg"),
        (
            "postgresql://me:a%40b@one:1,[::1]:2/shop?sslmode=require&sslpassword=geheim&options=-cx.key%3Dgeheim",
            "postgresql://me@one:1,[::1]:2/shop?sslmode=require",
        ),
        ("postgresql://:geheim@h/", "postgresql://h/"),
        ("sqlite:///data/labels.db", "sqlite:///data/labels.db"),
        ("sqlite:////srv/labels.db", "sqlite:////srv/labels.db"),
    ],
)
def test_a_source_is_the_url_without_what_may_be_secret(url: str, source: str) -> None:
    address = parse_address(url, {})
    assert address.source == source
    assert "geheim" not in repr(address)


def test_a_path_of_sqlite_is_relative_unless_it_begins_with_a_slash_of_its_own() -> None:
    assert parse_address("sqlite:///a%20b.db", {}).path == "a b.db"
    assert parse_address("sqlite:////a.db", {}).path == "/a.db"


def test_variables_are_filled_in_and_a_password_needs_no_encoding() -> None:
    address = parse_address("postgresql://me:${PASSWORD}@h/db", {"PASSWORD": "p@ss/w:rd#?"})
    assert address.url == "postgresql://me:p%40ss%2Fw%3Ard%23%3F@h/db"
    assert address.source == "postgresql://me@h/db"
    assert address.scrub("password p@ss/w:rd#? is wrong") == "password ••• is wrong"


def test_a_variable_at_the_beginning_holds_the_whole_url() -> None:
    assert parse_address("${DB}", {"DB": "postgresql://h/db?user=me"}).source == "postgresql://h/db?user=me"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UsageError, match=r"the environment's variable PASSWORD, which is not set; set PASSWORD"):
        parse_address("postgresql://me:${PASSWORD}@h/db", {})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:ge@heim@h/db", "percent-encode '@'"),
        ("postgresql://me:ge/heim@h/db", "is not user:password@host:port|no URL"),
        ("postgresql://me:geheim@h:port/db", "is not user:password@host:port"),
        ("postgresql://me:geheim@h/db?nonsense", "is not name=value"),
        ("postgresql+psycopg2://me:geheim@h/db", "names the database, not a driver"),
        ("mysql://me:geheim@h/db", r"no URL of a database that can be read \(mysql://…\)"),
        ("sqlite:///a.db?key=geheim", "by a path, without parameters"),
        ("geheim", "no URL of a database"),
        ("me:geheim@h://x", "no URL of a database"),
        ("postgresql://me:12/geheim@h/db", "percent-encode '@'"),
        ("postgresql://me:12?user=geheim@h/db", "percent-encode '@'"),
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_address(url, {})
    assert "heim" not in str(caught.value)


def test_a_table_is_named_after_the_url() -> None:
    assert parse_table("postgresql://h/db#public.weather") == TableRequest("postgresql://h/db", "public.weather")


def test_a_query_has_a_name_and_may_hold_any_signs() -> None:
    found = parse_query("postgresql://h/db#hot=SELECT a #>> '{b}' AS x FROM t WHERE c = 1;")
    assert found == TableRequest("postgresql://h/db", "hot", "SELECT a #>> '{b}' AS x FROM t WHERE c = 1")


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_table, "postgresql://me:geheim@h/db", "named by the database's URL, # and more"),
        (parse_table, "#weather", "named by the database's URL"),
        (parse_table, "postgresql://me:geheim@h/db#a=SELECT 1", "a query, not a table; use --query"),
        (parse_table, "postgresql://me:geheim@h/db#two words", "give it another name with a query"),
        (parse_table, "postgresql://me:geheim@h/db#../x", "give it another name with a query"),
        (parse_table, "postgresql://me:x#geheim@h/db#weather", "no name of a table.*write %23"),
        (parse_table, "postgresql://me:x#geheim#weather", "no name of a table.*write %23"),
        (parse_table, "postgresql://me:x#geheim=@h/db#weather", "this is a query"),
        (parse_query, "postgresql://me:x#geheim@h/db#weather=SELECT 1", "no name of a table.*write %23"),
        (parse_query, "postgresql://me:geheim@h/db#SELECT 1", "this has no query"),
        (parse_query, "postgresql://me:geheim@h/db#a=;", "this has no query"),
        (parse_query, "postgresql://me:geheim@h/db#a/b=SELECT 1", "a name holds A-Z"),
    ],
)
def test_a_request_of_another_form_is_refused_without_repeating_the_url(parse: object, text: str, message: str) -> None:
    assert callable(parse)
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert "geheim" not in str(caught.value)


def test_a_request_does_not_show_its_url() -> None:
    assert "geheim" not in repr(parse_table("postgresql://me:geheim@h/db#weather"))
