"""Fetching the shards that come next, where a corpus is on another machine."""

from itertools import zip_longest

from pipeline.corpus.corpus import fetch_ahead
from pipeline.data.corpora import Corpora
from pipeline.data.order import Order


def fetch_upcoming(corpora: Corpora, order: Order, step: int, number: int) -> None:
    """Let the shards of a step, and as many more of each source, come here in the background."""
    if not any(source.corpus.copy for source in corpora.shards.values()):
        return
    named = order.upcoming(step, number + 1)
    rounds = zip_longest(*([(name, shard) for shard in shards] for name, shards in named.items()))
    wanted = [one for each in rounds for one in each if one is not None]  # of each source the first, then the second
    sources = {name: corpora.shards[name] for name, _ in wanted}
    fetch_ahead([
        (sources[name].corpus, sources[name].split, sources[name].source, shard)
        for name, shard in wanted
    ])  # fmt: skip
