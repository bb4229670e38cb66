"""Fetching the shards that come next, where a corpus is on another machine."""

from itertools import zip_longest

from pipeline.corpus.corpus import fetch_ahead
from pipeline.data.corpora import Corpora
from pipeline.data.order import Order

_NEAR_STEPS = 64
"""If the next phase begins within so many steps, the first shards of its sources come: of a new one none is here."""


def fetch_upcoming(corpora: Corpora, order: Order, step: int, number: int) -> None:
    """Let the shards of a step, and as many more of each source, come here in the background."""
    if not any(source.corpus.copy for source in corpora.shards.values()):
        return
    named = order.upcoming(step, number + 1)
    rounds = zip_longest(*([(name, shard) for shard in shards] for name, shards in named.items()))
    first, *later = [[one for one in each if one is not None] for each in rounds]
    begins = first_shards(order, step) if number else []
    wanted = dict.fromkeys([*first, *begins, *(one for each in later for one in each)])
    sources = {name: corpora.shards[name] for name, _ in wanted}
    fetch_ahead([
        (sources[name].corpus, sources[name].split, sources[name].source, shard)
        for name, shard in wanted
    ])  # fmt: skip


def first_shards(order: Order, step: int) -> list[tuple[str, int]]:
    """The first shard of each source of the next phase, if it is near."""
    if order.phase(step).setting.packing == "best_fit":  # all shards up to there would be packed, which waits for them
        return []
    begin = order.next_begin(step)
    if begin is None or begin > step + _NEAR_STEPS:
        return []
    return [(name, one) for name, shards in order.upcoming(begin, 1).items() for one in shards]
