"""What numba's cache cannot see is kept out of the compiled code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mlstream.wire as wire

FILES = sorted(Path(wire.__file__).parent.glob("*.py"))


def compiled_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "compiled" for mark in node.decorator_list)
    ]


KERNELS = [path for path in FILES if compiled_functions(ast.parse(path.read_text()))]


def test_there_are_kernels_to_look_at() -> None:
    assert {path.stem for path in KERNELS} == {"decode_kernels", "encode_kernels", "partition"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_compiled_code_uses_nothing_from_another_file(path: Path) -> None:
    """The cache of a compiled function is renewed when its own file changes, and only then."""
    tree = ast.parse(path.read_text())
    foreign = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mlstream")
        for alias in node.names
    }
    for function in compiled_functions(tree):
        used = {node.id for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
        assert not used & foreign, f"{path.name}: {function.name} uses {used & foreign}"
