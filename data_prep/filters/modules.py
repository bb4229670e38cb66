"""The files that decide what a user's module does: its own, and what it imports from beside it."""

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def source_files(module: str) -> list[str]:
    """A module's file, those of the packages that it is in, and of all that these import, directly or not, from the
    folder that the module or its outermost package lies in; of an installed one, from that package alone.

    Nothing is executed but the packages that the module is in. Sorted; empty if there is no such module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return []
    if not spec or not spec.has_location or not spec.origin:
        return []
    outermost = module.partition(".")[0]
    home = _home(outermost)
    found = {spec.origin}
    waiting = _with_packages(module)
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        path = _file(home, name) if name.partition(".")[0] == outermost or home not in _LIBRARIES else None
        if path and name not in seen:
            seen.add(name)
            found.add(str(path))
            waiting += [each for imported in _imports(name, path) for each in _with_packages(imported)]
    return sorted(found)


def _home(outermost: str) -> Path:
    """The folder that a module or package that is in no other lies in."""
    spec = importlib.util.find_spec(outermost)
    assert spec is not None
    if spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]).parent
    return Path(spec.origin or "").parent


def _with_packages(name: str) -> list[str]:
    """`a`, `a.b`, `a.b.c`: importing a module runs the packages that it is in."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _file(home: Path, name: str) -> Path | None:
    """The file of a module below a folder; None if it is none, but a name in one or a library."""
    path = home.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def _imports(module: str, path: Path) -> Iterator[str]:
    """What a module imports, inside functions too; `from a import b` may mean the module `a.b`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it will tell
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            start = [*above, *((node.module,) if node.module else ())]
            yield from (".".join([*start, *more]) for more in ([], *([alias.name] for alias in node.names)) if start)
