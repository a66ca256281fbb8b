"""The entry point: exit codes, and errors as sentences instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from mlstream.cli import main
from mlstream.cli.lazy import LazyGroup
from mlstream.errors import GateFailed, Inconclusive, UnknownTopic, UsageError


def mlstream(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstream.cli.main", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_help_names_every_command_in_80_columns() -> None:
    done = mlstream("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in main.COMMANDS)
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["--version"]])
def test_asking_for_help_is_no_error(args: list[str]) -> None:
    assert main.run(args) == 0


@pytest.mark.parametrize("args", [["nonsense"], ["--nonsense"], ["config"], ["config", "check"]])
def test_a_wrong_command_is_exit_2_with_nothing_on_stdout(args: list[str]) -> None:
    done = mlstream(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "meant"),
    [(["up"], "mlstream broker up"), (["snapsho"], "mlstream snapshot"), (["snapshot", "lst"], "mlstream snapshot ls")],
)
def test_a_command_of_another_group_or_nearly_of_that_name_is_suggested(
    capsys: pytest.CaptureFixture[str], args: list[str], meant: str
) -> None:
    assert main.run(args) == 2
    assert f"No such command {args[-1]!r}. Did you mean `{meant}`?" in capsys.readouterr().err


def test_every_listed_command_can_be_loaded_and_its_help_is_what_the_list_says() -> None:
    def walk(group: LazyGroup) -> None:
        with click.Context(group) as ctx:
            for name in group.commands_of:
                command = group.get_command(ctx, name)
                assert command is not None
                assert command.name == name
                if isinstance(command, LazyGroup):
                    walk(command)

    group = main.cli
    assert isinstance(group, LazyGroup)
    walk(group)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownTopic("no topic 'tiks'", hint="did you mean 'ticks'?"), 1),
        (UsageError("wrong"), 2),
        (GateFailed("log_loss is worse"), 3),
        (Inconclusive("12 blocks are too few"), 4),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ValueError("oops"), 1),
    ],
)
def test_an_error_becomes_a_sentence_and_its_exit_code(error: BaseException, code: int) -> None:
    program = (
        "import click, pickle, sys\n"
        "from mlstream.cli import main\n"
        "error = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "@main.cli.command('boom')\n"
        "def boom(): raise error\n"
        "type(main.cli).get_command = lambda self, ctx, name: boom\n"
        "sys.exit(main.run(['boom']))\n"
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", program, pickle.dumps(error).hex()], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if code in (1, 2, 3, 4):
        assert str(error).split(";")[0] in done.stderr
    if isinstance(error, UnknownTopic):
        assert "fix: did you mean 'ticks'?" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
@pytest.mark.parametrize("args", [("config", "schema"), ("--help",), ("version", "ls", "--json")])
def test_a_full_disk_behind_stdout_is_named(args: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "mlstream.cli.main", *args]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    said = "error: the output cannot be written: No space left on device\n  fix: free some space, and run it again\n"
    assert done.stderr == said
