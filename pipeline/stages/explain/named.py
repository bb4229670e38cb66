"""Some documents of a step, in one line."""

from pipeline.stages.explain.run import Explained
from pipeline.stages.explain.step import explain_step

_MOST_DOCUMENTS, _MOST_RANKS = 5, 8


def some_documents(run: Explained, step: int) -> str:
    """The first few documents that each of the first few ranks read in a step, from 1."""
    of_ranks: dict[int, dict[str, None]] = {}
    for row in explain_step(run, step).rows:
        names = of_ranks.setdefault(row.rank, {})
        names |= dict.fromkeys(f"{one.origin}{'#' if one.id else ':'}{one.position}" for one in row.documents)
    told = [f"rank {rank}: {_first(list(of_ranks[rank]), _MOST_DOCUMENTS)}" for rank in sorted(of_ranks)]
    more = len(told) - _MOST_RANKS
    return "; ".join(told[:_MOST_RANKS]) + (f"; and of {more} ranks more" if more > 0 else "")


def _first(names: list[str], number: int) -> str:
    rest = len(names) - number
    return ", ".join(names[:number]) + (f" and {rest} more" if rest > 0 else "")
