"""Find the source files that a module loads from its project, and digest them. Reads code; runs none.

The walk is static: it follows every import statement, also those inside functions, so that a module that is loaded
late counts too. What only `importlib` could tell is checked when the version runs (`importing.py`): a project's file
that gets loaded and is not among the sources is an error, so nothing escapes the digest.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import mlstream
from mlstream.errors import VersionLoadError
from mlstream.versions.digests import digest_value
from mlstream.versions.names import check_name
from mlstream.versions.reference import CodeReference

_INSTALLED = ("site-packages", "dist-packages")
_OWN_PACKAGE = Path(mlstream.__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Project:
    """Which files count as a version's code, and where its imports are looked for.

    Attributes:
        root: the project's root.
        path: folders that come before the interpreter's own path: the root, and its `src` if it has one.
        late: folders that come after it: that of a file that was named by path, so that it may import its neighbours.
        extra: the folder (or single file) of an installed package that a version was named from.
        worktree: the project in the working tree, when `root` is an earlier revision of it: its code must not mix with
            the revision's, as an editable install would have it.
    """

    root: Path
    path: tuple[Path, ...]
    late: tuple[Path, ...] = ()
    extra: Path | None = None
    worktree: Path | None = None

    def owns(self, file: str | Path) -> bool:
        """Whether a file is the project's own code: not installed, not the standard library, not mlstream.

        A symbolic link in the project makes what it leads to the project's, wherever that is.
        """
        file = Path(file)
        found = file.resolve()
        if _is_own(found):
            return False
        if self.extra is not None and found.is_relative_to(self.extra):
            return True
        name = _below(self.root, file)
        if name is None or _is_installed(found if found.is_relative_to(self.root.resolve()) else self.root / name):
            return False
        # mlstream's own code in a revision of its own repository: what runs is this one.
        return self.worktree is None or not _is_own(self.worktree.resolve() / name)

    def strays(self, file: str | Path) -> bool:
        """Whether a file is the working tree's code, where a revision's is wanted."""
        if self.worktree is None or _below(self.root, Path(file)) is not None:
            return False
        name = _below(self.worktree, Path(file))
        return name is not None and not (_is_installed(self.worktree / name) or _is_own(Path(file).resolve()))

    def relative(self, file: Path) -> str:
        """The name of a file in digests and messages: its path in the project, with slashes."""
        name = _below(self.root, file)
        if name is None and self.extra is not None:
            name = file.resolve().relative_to(self.extra.parent)
        return (file if name is None else name).as_posix()


@dataclass(frozen=True, slots=True)
class Sources:
    """The code of a version.

    Attributes:
        project: where it is.
        module: the module that was named.
        files: path in the project → SHA-256 of the bytes, sorted.
        modules: the dotted names under which the files are imported → the files.
    """

    project: Project
    module: str
    files: dict[str, str]
    modules: dict[str, Path] = field(repr=False)

    @property
    def digest(self) -> str:
        """One digest over all files, their paths included."""
        return digest_value(self.files)


def find_project(root: Path, *, beside: Path | None = None, worktree: Path | None = None) -> Project:
    """The project at `root`; files next to `beside` may be imported as well. `worktree` is as `Project` has it."""
    before = [root, *(folder for folder in (root / "src",) if folder.is_dir())]
    late = () if beside is None or beside.parent in before else (beside.parent,)
    return Project(root, tuple(before), late, worktree=worktree)


def find_sources(
    reference: CodeReference, *, root: Path, where: str, site: Path | None = None, worktree: Path | None = None
) -> Sources:
    """The files that loading `reference` takes from the project.

    Args:
        reference: what is loaded.
        root: the project's root.
        where: the version, for messages.
        site: the folder of the packages that are installed where it will be loaded; None: as in this process.
        worktree: the project in the working tree, when `root` is a revision of it.

    Raises:
        VersionLoadError: the module is not there, one of the files is not Python, or the module has no such name.
    """
    sources = _sources(reference, root=root, where=where, site=site, worktree=worktree)
    file = sources.modules[sources.module]
    others = [other for other in sources.modules.values() if other != file]
    check_name(file, reference.name, others, shown=sources.project.relative(file), where=where)
    return sources


def _sources(reference: CodeReference, *, root: Path, where: str, site: Path | None, worktree: Path | None) -> Sources:
    project = find_project(root, beside=reference.file, worktree=worktree)
    installed = sys.path if site is None else [str(site)]
    walk = _Walk(project, where, installed)
    if reference.file is not None:
        return walk.sources(reference.module, reference.file)
    found = walk.find(reference.module)
    if found is not None:
        return walk.sources(reference.module, found)
    package = _installed_package(reference.module, installed)
    if package is None:
        raise VersionLoadError(
            f"{where}: there is no module {reference.module!r}",
            hint=f"modules are looked for in {root} and among the packages of "
            + (sys.executable if site is None else str(site)),
            where=where,
        )
    # An installed package: its own files count (its version alone says little of an editable install), and what it
    # imports from others is the environment's.
    project = Project(root, (*project.path, package.parent), (), package, worktree)
    walk = _Walk(project, where, installed)
    found = walk.find(reference.module)
    if found is None:
        raise VersionLoadError(f"{where}: there is no module {reference.module!r} in {package}", where=where)
    return walk.sources(reference.module, found)


class _Walk:
    """One walk over import statements, from a module to all that it reaches in the project."""

    def __init__(self, project: Project, where: str, installed: Sequence[str]) -> None:
        self._project = project
        self._where = where
        self._installed = installed
        self._found: dict[str, Path | None] = {}

    def sources(self, module: str, file: Path) -> Sources:
        modules: dict[str, Path] = {}
        waiting = [(module, file), *self._parents(module)]
        while waiting:
            name, path = waiting.pop()
            if name in modules:
                continue
            modules[name] = path
            if path.suffix == ".py":
                waiting.extend(self._imports(name, path))
        files = {
            self._project.relative(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in set(modules.values())
        }
        return Sources(self._project, module, dict(sorted(files.items())), modules)

    def find(self, module: str) -> Path | None:
        """The project's file of a module, or None when it is not the project's."""
        if module not in self._found:
            self._found[module] = self._search(module)
        return self._found[module]

    def _search(self, module: str) -> Path | None:
        top, *rest = module.split(".")
        bases = list(self._project.path)
        if top in sys.stdlib_module_names:
            return None
        if _regular(bases, top) is None:
            if _is_foreign(top, (*bases, *self._project.late), self._installed):
                return None
            bases += self._project.late
        for part in (top, *rest[:-1]) if rest else ():
            package = _regular(bases, part)
            if package is None:
                bases = [base / part for base in bases if (base / part).is_dir()]
            elif package.name == "__init__.py":
                bases = [package.parent]
            else:
                return None
        file = _regular(bases, rest[-1] if rest else top)
        return file if file is not None and self._project.owns(file) else None

    def _parents(self, module: str) -> Iterator[tuple[str, Path]]:
        """The packages around a module: importing it runs their `__init__.py` too."""
        parts = module.split(".")
        for length in range(1, len(parts)):
            name = ".".join(parts[:length])
            file = self.find(name)
            if file is not None:
                yield name, file

    def _imports(self, module: str, file: Path) -> Iterator[tuple[str, Path]]:
        try:
            tree = ast.parse(file.read_bytes(), filename=str(file))
        except SyntaxError as exc:
            raise VersionLoadError(
                f"{self._where}: {self._project.relative(file)}:{exc.lineno}: not Python: {exc.msg}",
                hint="correct the line",
                where=self._where,
                path=str(file),
                line=exc.lineno,
            ) from exc
        is_package = file.name == "__init__.py"
        package = module if is_package else module.rpartition(".")[0]
        for name in _imported(tree, package):
            found = self.find(name)
            if found is not None:
                yield name, found
                yield from self._parents(name)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every dotted name that import statements may load; `from a import b` gives `a` and `a.b`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                outer = parts[: len(parts) - node.level + 1]
                base = ".".join([*outer, base] if base else outer)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_for_types_only(node.test):
            for other in node.orelse:
                yield from _imported(ast.Module([other], []), package)
        else:
            yield from _imported(node, package)


def _is_for_types_only(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _regular(bases: list[Path], name: str) -> Path | None:
    """The file that `import name` runs from one of the folders: a package, an extension module or a module."""
    for base in bases:
        for file in (base / name / "__init__.py", *(base / f"{name}{end}" for end in (*EXTENSION_SUFFIXES, ".py"))):
            if file.is_file():
                return file
    return None


def _below(folder: Path, file: Path) -> Path | None:
    """A file's path from a folder: from where it is, else from where links lead to it; None when it is not below it."""
    whole = folder.resolve()
    given = Path(os.path.abspath(file))
    for path, base in ((file.resolve(), whole), (given, whole), (given, Path(os.path.abspath(folder)))):
        if path.is_relative_to(base):
            return path.relative_to(base)
    return None


def _is_installed(file: Path) -> bool:
    """Whether a file is of an installed package or the standard library, wherever these are."""
    return any(part in _INSTALLED for part in file.parts) or file.is_relative_to(sysconfig.get_path("stdlib"))


def _is_own(file: Path) -> bool:
    return file.is_relative_to(_OWN_PACKAGE)


def _is_foreign(name: str, own: tuple[Path, ...], installed: Sequence[str]) -> bool:
    """Whether the interpreter finds a top-level module elsewhere than in the project's folders."""
    elsewhere = [entry for entry in installed if entry and Path(entry) not in own]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _installed_package(module: str, installed: Sequence[str]) -> Path | None:
    """The folder of the top-level package that holds an installed module; a module's file if it is in none."""
    spec = PathFinder.find_spec(module.partition(".")[0], installed)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    return origin.parent if spec.submodule_search_locations else origin
