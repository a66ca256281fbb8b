"""Whether a module of the project has a name, told from its source. Runs no code.

Only what is certain is refused: a module that makes names in a way that is not seen here (`import *`, `globals()`, a
`__getattr__` of its own, …) may have any, and so the version's own process finds out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from mlstream.errors import VersionLoadError

# What can make names that no statement shows: as a function that is called, and as an attribute.
_MAKERS = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr"})
_INSIDES = frozenset({"__dict__", "modules"})
_MADE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What has names of its own.
_SCOPES = (*_MADE, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def check_name(file: Path, name: str, others: Iterable[Path], *, shown: str, where: str) -> None:
    """Nothing, if a module may have a name.

    Args:
        file: the module's.
        name: what is wanted of it.
        others: the project's other files that are loaded with it, which may give it names, too.
        shown: the file in messages.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: it has no such name; the message has a near one, or all.
    """
    if file.suffix != ".py":
        return
    tree = ast.parse(file.read_bytes(), filename=str(file))
    nodes = list(ast.walk(tree))
    names = set(_bound(tree.body)) | {found for node in nodes if isinstance(node, ast.Global) for found in node.names}
    walrus = {node.target.id for node in nodes if isinstance(node, ast.NamedExpr)}
    if not names.isdisjoint((name, "__getattr__")) or name in walrus or any(map(_is_open, nodes)):
        return
    if _is_submodule(file, name) or any(_gives(other, name) for other in others):
        return
    offered = sorted(found for found in names if not found.startswith("_"))
    near = get_close_matches(name, offered, n=1)
    makes = {node.name for node in tree.body if isinstance(node, _MADE)}  # what it imports is seldom meant
    offered = sorted(makes.intersection(offered)) or offered
    raise VersionLoadError(
        f"{where}: {shown} has no {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(offered) or 'no names at all'}",
        where=where,
    )


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    """The names that statements bind, wherever in loops and branches, but not inside functions and classes."""
    for node in body:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name is not None:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest is not None:
            yield node.rest
        if not isinstance(node, _SCOPES):
            yield from _bound(ast.iter_child_nodes(node))
        elif isinstance(node, _MADE):
            yield node.name


def _is_open(node: ast.AST) -> bool:
    """Whether a module with this may have names that its statements do not show."""
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr in _INSIDES
    return isinstance(node, ast.Name) and node.id in _MAKERS


def _is_submodule(file: Path, name: str) -> bool:
    """Whether it is a package that has a module of that name, which an import makes an attribute."""
    folder = file.parent
    return file.name == "__init__.py" and ((folder / name).is_dir() or any(folder.glob(f"{name}.*")))


def _gives(other: Path, name: str) -> bool:
    """Whether another module may set the name: it assigns to such an attribute, or has the name as a text."""
    if other.suffix != ".py":
        return False
    return any(
        (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name)
        or (isinstance(node, ast.Constant) and node.value == name)
        for node in ast.walk(ast.parse(other.read_bytes(), filename=str(other)))
    )
