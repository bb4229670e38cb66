"""What code a task runs: its module, all of ours that this imports, and the versions of the libraries they use."""

import ast
import hashlib
import platform
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

_OURS = ("data_prep", "pipeline")
_LEFT_OUT = ("pipeline.config", "pipeline.errors", "data_prep.tasks")
"""They decide no byte of a result; the values of a config are part of the key themselves."""


@cache
def code_identity(module: str) -> dict[str, str]:
    """The checksum of a module's code with all it imports of ours, and the versions of everything else."""
    sources, libraries = _collect(module)
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return {
        "code": digest.hexdigest(),
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **_versions(libraries),
    }


def _collect(module: str) -> tuple[dict[str, bytes], set[str]]:
    sources: dict[str, bytes] = {}
    libraries: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in sources or name.startswith(_LEFT_OUT):
            continue
        if name.split(".")[0] not in _OURS:
            libraries.add(name.split(".")[0])
        elif path := _file_of(name):
            sources[name] = path.read_bytes()
            waiting += _imports(sources[name])
    return sources, libraries


def _file_of(name: str) -> Path | None:
    """The file of a module; None if it is no module but a name in one."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imports(source: bytes) -> Iterator[str]:
    """What a source imports, inside functions too; `from a import b` may mean the module `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.split(".")[0] in _OURS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _versions(libraries: set[str]) -> dict[str, str]:
    """Versions of the distributions that hold some packages; those that are not installed have none."""
    distributions = _distributions()
    names = {name for library in libraries - sys.stdlib_module_names for name in distributions.get(library, ())}
    return {name: version(name) for name in sorted(names)}


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(found) for name, found in packages_distributions().items()}
