"""Work that waits for disks, some items at a time."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_THREADS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], description: str, console: Console | None = None
) -> list[Result]:
    """What a function returns for each item, in their order, with a bar while it takes."""
    with ThreadPoolExecutor(_THREADS) as executor:
        results: Iterable[Result] = executor.map(function, items)
        return list(track(results, total=len(items), description=description, transient=True, console=console))
