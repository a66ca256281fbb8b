"""What numba's cache cannot see is kept out of the compiled code."""

from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa
import pytest

import mlstream.wire as wire
from mlstream.wire import encode_kernels, header_kernels, record_kernels
from mlstream.wire.decode import decode, decode_parts
from mlstream.wire.encode import encode, split_rows
from tests.wire.plain import Record, build

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
    assert {path.stem for path in KERNELS} == {"header_kernels", "record_kernels", "encode_kernels", "partition"}


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


def test_each_kernel_is_compiled_for_one_kind_of_arrays_only() -> None:
    """A second kind would be another compilation of seconds, in the middle of somebody's work."""
    for codec in ("none", "lz4"):
        data = b"".join(build([Record(at, 1, b"k", b"v", ((b"h", None),))], codec=codec) for at in range(3))
        for answer in (b"", data, bytearray(data), memoryview(data)):
            columns = decode(answer, topic="t", partition=0, start=1).columns
            list(decode_parts(answer, topic="t", partition=0, start=0, part_bytes=70))
    copied = pa.ipc.open_stream(pa.BufferReader(_stream(columns))).read_all()
    shared = columns.drop_columns("headers").append_column("headers", _dictionary(columns.column("headers")))
    for table in (columns, columns.slice(1), copied, pa.table({"value": ["x", None]}), shared, shared.slice(1)):
        encode(table)
        split_rows(table, max_bytes=1000, max_rows=10)
    for kernel in (
        header_kernels.walk,
        *(getattr(record_kernels, name) for name in ("parse", "copy_binaries", "copy_headers")),
        encode_kernels.write,
        encode_kernels.write_blocks,
        encode_kernels.split,
    ):
        assert len(kernel.signatures) == 1, kernel.signatures


def _dictionary(lists: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(range(len(lists)), pa.int32()), lists)


def _stream(columns: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_batch(columns)
    return bytes(sink.getvalue())
