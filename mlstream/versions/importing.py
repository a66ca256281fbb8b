"""Load a version's code exactly as it was digested, and keep account of what was loaded. Digests nothing else.

Importing is global to a process by its nature: the project's folders go to `sys.path`, and a finder in front of
`sys.meta_path` loads the project's files from their source (never from a cached `.pyc`, which may be stale within a
second) and notes the SHA-256 of the very bytes that it ran. A version is therefore best loaded in a process of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mlstream.errors import VersionLoadError
from mlstream.versions.digests import digest_file
from mlstream.versions.reference import CodeReference
from mlstream.versions.sources import Project, Sources


class _ExactLoader(SourceFileLoader):
    """Loads source only, and tells the account what it ran."""

    def __init__(self, name: str, path: str, account: Account) -> None:
        super().__init__(name, path)
        self._account = account

    def get_code(self, fullname: str) -> CodeType:
        data = Path(self.path).read_bytes()
        self._account.loaded[self._account.project.relative(Path(self.path))] = hashlib.sha256(data).hexdigest()
        code = self.source_to_code(data, self.path)
        if not isinstance(code, CodeType):
            raise ImportError(f"{self.path} did not compile to code", name=fullname)
        return code


class Account(MetaPathFinder):
    """Which of the project's files a process has loaded.

    Attributes:
        project: whose files are accounted for.
        loaded: path in the project → SHA-256 of the bytes that ran.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.loaded: dict[str, str] = {}
        self._added: list[str] = []
        self._before: frozenset[str] = frozenset()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that is the project's own; None leaves it to the next finder."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not self.project.owns(spec.origin):
            return None
        if isinstance(spec.loader, SourceFileLoader):
            return self.spec(fullname, Path(spec.origin))
        if isinstance(spec.loader, (ExtensionFileLoader, SourcelessFileLoader)):  # no source: Python loads it itself
            self.loaded[self.project.relative(Path(spec.origin))] = digest_file(Path(spec.origin))
        return None

    def spec(self, name: str, file: Path) -> ModuleSpec | None:
        """The spec of a module of that name in that file."""
        return spec_from_file_location(name, file, loader=_ExactLoader(name, str(file), self))

    def install(self) -> None:
        """Put the project's folders on the path and this finder first, in place of an earlier account's."""
        for finder in [finder for finder in sys.meta_path if isinstance(finder, Account)]:
            sys.meta_path.remove(finder)
            for folder in finder._added:
                sys.path.remove(folder)
        sys.meta_path.insert(0, self)
        self._before = frozenset(sys.modules)
        before = [str(folder) for folder in self.project.path if str(folder) not in sys.path]
        late = [str(folder) for folder in self.project.late if str(folder) not in sys.path]
        sys.path[:] = [*before, *sys.path, *late]
        self._added = [*before, *late]
        importlib.invalidate_caches()

    def check(self, expected: Mapping[str, str], *, where: str) -> None:
        """Compare what was loaded with what was digested.

        Args:
            expected: path in the project → SHA-256, of the sources and the declared files.
            where: the version, for the message.

        Raises:
            VersionLoadError: a file is not among them, or it changed in between, or is the working tree's where a
                revision's is wanted.
        """
        strays = self._strays()
        if strays:
            raise VersionLoadError(
                f"{where}: {', '.join(strays)} was loaded from the working tree; its revision has no such module",
                hint="name a revision that has it, or uninstall the project from this Python",
                where=where,
                files=strays,
            )
        unseen = sorted(set(self.loaded) - set(expected))
        if unseen:
            raise VersionLoadError(
                f"{where}: {', '.join(unseen)} was loaded in a way that its digest does not see (importlib, a pickle, "
                "a .pyc)",
                hint=f"import it with an import statement, or name it under `files:` of {where}",
                where=where,
                files=unseen,
            )
        changed = sorted(name for name, digest in self.loaded.items() if expected[name] != digest)
        if changed:
            raise VersionLoadError(
                f"{where}: {', '.join(changed)} changed while the version was being loaded",
                hint="run again",
                where=where,
                files=changed,
            )

    def _strays(self) -> list[str]:
        """Files of the working tree that were loaded since, where a revision's are wanted."""
        if self.project.worktree is None:
            return []
        new = [module for name, module in list(sys.modules.items()) if name not in self._before]
        files = [file for module in new if isinstance(file := getattr(module, "__file__", None), str)]
        return sorted(file for file in files if self.project.strays(file))


def load_attribute(sources: Sources, reference: CodeReference, account: Account, *, where: str) -> Any:
    """Import the module and get the name in it.

    Raises:
        VersionLoadError: importing raised, or the module has no such name.
    """
    account.install()
    _forget(sources)
    try:
        if reference.alone and reference.file is not None:
            module = _load_alone(reference.module, reference.file, account)
        else:
            module = importlib.import_module(reference.module)
    except Exception as exc:
        raise raised(exc, sources.project, f"{where}: importing {reference.module} raised", where=where) from exc
    try:
        return getattr(module, reference.name)
    except AttributeError:
        file = getattr(module, "__file__", None)
        shown = reference.module if file is None else sources.project.relative(Path(file))
        names = [name for name in vars(module) if not name.startswith("_")]
        near = get_close_matches(reference.name, names, n=1)
        raise VersionLoadError(
            f"{where}: {shown} has no {reference.name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(names)) or 'no names at all'}",
            where=where,
        ) from None


def call_factory(factory: Any, parameters: Mapping[str, Any], project: Project, *, name: str, where: str) -> Any:
    """`factory(**parameters)`.

    Raises:
        VersionLoadError: it cannot be called with these, or it raised.
    """
    if not callable(factory):
        raise VersionLoadError(
            f"{where}: {name} is a {type(factory).__name__}, which cannot be called",
            hint="name a function that returns the model, or the model's class",
            where=where,
        )
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        pass  # a callable that does not tell its parameters; the call itself will
    else:
        try:
            signature.bind(**parameters)
        except TypeError as exc:
            raise VersionLoadError(
                f"{where}: {name}{signature} cannot be called with the parameters "
                f"{', '.join(parameters) or '(none)'}: {exc}",
                hint=_how_to_call(factory, parameters, signature, name=name, where=where),
                where=where,
            ) from None
    try:
        return factory(**parameters)
    except Exception as exc:
        raise raised(exc, project, f"{where}: {name} raised", where=where) from exc


def _how_to_call(
    factory: Any, parameters: Mapping[str, Any], signature: inspect.Signature, *, name: str, where: str
) -> str:
    """What to do about a factory that does not take the parameters; it is often meant to be `predict` itself."""
    needed = [each for each in signature.parameters.values() if each.default is each.empty]
    if parameters or isinstance(factory, type) or len(needed) != 1:
        return f"correct `parameters:` of {where}"
    return (
        f"{name} is called once, to make the model: let it return an object with a method "
        f"predict({needed[0].name}), or name a class that has one; or give {needed[0].name} under `parameters:`"
    )


def raised(exc: Exception, project: Project, message: str, *, where: str) -> VersionLoadError:
    """The error for an exception in a project's code: its kind, its text, and the project's line where it came from.

    Raise it `from exc`: the whole traceback is the cause's.
    """
    if isinstance(exc, SyntaxError) and exc.filename is not None:
        found: str | None = f"{_shown(project, exc.filename)}:{exc.lineno}"
    else:
        found = place_of(exc, project)
    place = "" if found is None else f" at {found}"
    text = next(iter(str(exc).splitlines()), "")
    hint = None
    if isinstance(exc, ModuleNotFoundError):
        hint = f"modules are looked for in {project.root}, beside the file, and among the installed packages"
    return VersionLoadError(f"{message} {type(exc).__name__}{place}: {text}", hint=hint, where=where)


def place_of(exc: BaseException, project: Project) -> str | None:
    """The project's line that an exception came from, `shop/model.py:12`; None when it came from no line of it."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_own(project, frame.filename)]
    return f"{_shown(project, frames[-1].filename)}:{frames[-1].lineno}" if frames else None


def _forget(sources: Sources) -> None:
    """Drop the project's modules, and the packages around them, that the process has under these names already: they
    may be of an earlier state of the files, or another project's. Installed packages stay.
    """
    for module, file in sources.modules.items():
        if file.is_relative_to(sources.project.root):
            parts = module.split(".")
            for length in range(1, len(parts) + 1):
                sys.modules.pop(".".join(parts[:length]), None)


def _shown(project: Project, file: str) -> str:
    return project.relative(Path(file)) if _is_own(project, file) else file


def _is_own(project: Project, file: str) -> bool:
    return not file.startswith("<") and project.owns(file)  # "<string>" and the like are no files


def _load_alone(name: str, file: Path, account: Account) -> ModuleType:
    """Import a file whose path is no dotted name."""
    spec = account.spec(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
