"""Errors on a terminal have colours, and none where NO_COLOR asks for none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_an_error_on_a_terminal_has_no_colour_where_that_is_asked_for(no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    command = [sys.executable, "-m", "mlstream.cli.main", "version", "show", "v1", "--config", "no-such.yaml"]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 1
    assert "no-such.yaml: there is no such file" in said
    assert ("\x1b[31m" in said) is coloured
    assert ("\x1b" in said) is coloured
