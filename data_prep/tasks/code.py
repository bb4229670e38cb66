"""What code a task runs: its modules, all of ours that these import, and the versions of the libraries they use."""

import ast
import hashlib
import platform
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

_OURS = ("data_prep", "pipeline")
_LEFT_OUT = ("pipeline.config", "pipeline.errors", "data_prep.tasks")
"""They decide no byte of a result; the values of a config are part of the key themselves."""
_CHOICES = {
    "data_prep.readers": "data_prep.readers",
    "data_prep.filters": "data_prep.filters",
    "data_prep.dedup.signatures": "data_prep.dedup.minhash",
}
"""Module -> from where it imports what only some configs choose. A task names what it uses of that (`Task.modules`)."""


@cache
def code_identity(modules: tuple[str, ...]) -> dict[str, str]:
    """The checksum of some modules' code with all they import of ours, and the versions of everything else."""
    sources, libraries = _collect(modules)
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return {
        "code": digest.hexdigest(),
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **_versions(libraries),
    }


def difference(planned: Mapping[str, str], here: Mapping[str, str]) -> str:
    """In words, where one `code_identity` differs from another; empty if nowhere."""
    differing = sorted(name for name in {*planned, *here} if planned.get(name) != here.get(name))
    return ", ".join(
        "another version of Tarmac's code"
        if name == "code"
        else f"{name} {here.get(name, 'is missing')} instead of {planned.get(name, 'none')}"
        for name in differing
    )


def _collect(modules: Sequence[str]) -> tuple[dict[str, bytes], set[str]]:
    sources: dict[str, bytes] = {}
    libraries: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources or name.startswith(_LEFT_OUT):
            continue
        if name.split(".")[0] not in _OURS:
            libraries.add(name.split(".")[0])
        elif path := _file_of(name):
            sources[name] = path.read_bytes()
            waiting += _imports(sources[name], _CHOICES.get(name))
    return sources, libraries


def _file_of(name: str) -> Path | None:
    """The file of a module; None if it is no module but a name in one."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def _imports(source: bytes, without: str | None) -> tuple[str, ...]:
    """What a source imports, inside functions too, but not from `without`; `from a import b` may mean module `a.b`."""
    found: list[str] = []
    for node in _statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != without:
            found.append(node.module)
            if node.module.split(".")[0] in _OURS:
                found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Statements at any depth. Expressions, which are most of a tree, import nothing."""
    for node in nodes:
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, field, ()))


def _versions(libraries: set[str]) -> dict[str, str]:
    """Versions of the distributions that hold some packages; those that are not installed have none."""
    return {name: found for library in sorted(libraries - sys.stdlib_module_names) for name, found in _found(library)}


@cache
def _found(library: str) -> tuple[tuple[str, str], ...]:
    """Name and version of the distributions that hold a package; most are called as it is, which is quick to see."""
    try:
        return ((library, version(library)),)
    except PackageNotFoundError:
        names = _distributions().get(library, ()) if find_spec(library) else ()
    return tuple((name, version(name)) for name in sorted(set(names)))


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(found) for name, found in packages_distributions().items()}
