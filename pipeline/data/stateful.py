"""The loader alone, for any PyTorch loop, in the manner of torchdata's `StatefulDataLoader`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.manifest import Split
from pipeline.data.batch import Batch
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cuts, Packing
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights, source_names
from pipeline.data.order import Order
from pipeline.data.phases import Change, Past, Phase, Setting, SourceShare
from pipeline.errors import CheckpointError, ConfigError


class Source(NamedTuple):
    """One source of a mixture."""

    corpus: str | Path
    """The corpus folder, or its URL."""
    name: str
    """The source's name in that corpus."""
    weight: float = 1.0
    """Share of the sequences, relative to the other weights."""


def _require(name: str, value: Any, wanted: str, is_met: bool) -> None:
    if not is_met:
        raise ConfigError(f"{name} ({value!r}) must be {wanted}")


def _require_integers(least: int, **numbers: Any) -> None:
    for name, number in numbers.items():
        is_met = isinstance(number, int) and number >= least
        _require(name, number, f"an integer from {least} on", is_met)


def _require_mixture(sources: Sequence[Source]) -> None:
    weights = [source.weight for source in sources]
    is_met = all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in weights) and any(weights)
    _require("weights", weights, "at least 0, and one of them above", is_met)


class StatefulLoader:
    """One rank's batches of a mixture, one after the other.

    Its state is the number of batches handed out and the phase table, and is the same on every rank. It may be loaded
    into a loader with another number of ranks or another micro size: global batches stay the same, sample for sample.
    With other weights, sources, length, packing or global size, what is left of the data goes on in the new way, and
    nothing is lost or repeated.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        sequence_length: int,
        global_size: int,
        micro_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        packing: Packing = "concat",
        mask_documents: bool = False,
        pad_id: int = 0,
        split: Split = "train",
        num_steps: int | None = None,
    ) -> None:
        """Open the corpora.

        Args:
            sources: The mixture.
            sequence_length: Tokens per sequence.
            global_size: Sequences of all ranks in a batch.
            micro_size: Sequences in a micro batch.
            rank: This process's number.
            world_size: How many processes there are.
            seed: Seeds the order of samples.
            packing: `concat`: windows over the stream of documents; `best_fit`: no document is cut that fits.
            mask_documents: Whether documents in one window are kept apart, by `position_ids`.
            pad_id: Token where there is no text; nothing is learned there.
            split: `train` or `validation`.
            num_steps: How many batches there are; None: without end, epoch after epoch.

        Raises:
            ConfigError: A number is out of range, or the packing or split is unknown.
            CorpusError: A corpus or source is missing or empty, or corpora differ in their tokenizer.
        """
        _require_integers(
            1, sequence_length=sequence_length, global_size=global_size, micro_size=micro_size, world_size=world_size
        )
        _require_integers(0, seed=seed, pad_id=pad_id, num_steps=num_steps or 0)
        _require("rank", rank, f"an integer from 0 to world_size - 1, {world_size - 1}", rank in range(world_size))
        _require("packing", packing, "concat or best_fit", packing in ("concat", "best_fit"))
        _require("split", split, "train, validation or test", split in get_args(Split))
        _require_mixture(sources)
        names = source_names((str(source.corpus), source.name) for source in sources)
        corpora = {folder: open_corpus(folder) for folder, _ in names}
        named = {name: (corpora[folder], source) for (folder, source), name in names.items()}
        self._source = Corpora(named, split)
        self._cuts = Cuts(self._source.shards, seed)
        shared = zip(names.values(), integer_weights([source.weight for source in sources]), strict=True)
        shares = tuple(self._share_of(name, weight) for name, weight in shared)
        self._setting = Setting(shares, sequence_length, global_size, packing, mask_documents)
        self._share, self._pad_id, self._seed = Share(rank, world_size, micro_size), pad_id, seed
        self._num_steps, self._step = num_steps, 0
        self._loop: object = None  # the one that goes on
        self._order = Order(self._cuts, seed, [Phase(0, 0, self._setting)])

    def _share_of(self, name: str, weight: int) -> SourceShare:
        number = len(self._source.shards[name].num_positions)
        return SourceShare(name, self._source.fingerprint(name, number), number, weight)

    def __iter__(self) -> Iterator[Batch]:
        """The batches that have not been handed out, prepared in the background; loops begun before end."""
        self._loop = loop = object()
        loader = Loader(self._source, self._order, self._share, self._pad_id)
        with closing(loader.batches(self._step, self._num_steps)) as batches:
            for batch in batches:
                if self._loop is not loop:
                    return
                self._step = batch.step + 1
                yield batch

    def __len__(self) -> int:
        """Number of batches, those handed out included. Raises TypeError where there is no end."""
        if self._num_steps is None:
            raise TypeError("StatefulLoader without num_steps has no end and so no length; give num_steps")
        return self._num_steps

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the batches handed out so far, and under what settings they came."""
        return {"seed": self._seed, **self._order.past(self._step).to_json()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batches of a state; loops begun before end.

        Raises:
            CheckpointError: The state is of another seed, of a source that is not here, or of other data.
        """
        if state.get("seed") != self._seed:
            raise CheckpointError(f"seed ({self._seed}) differs from the state's ({state.get('seed')}); give that one")
        try:
            past = Past.from_json({key: value for key, value in state.items() if key != "seed"})
        except ValueError as error:
            raise CheckpointError("the state is none that state_dict returned; load the one that was saved") from error
        for share in (share for phase in past.phases for share in phase.setting.sources):
            self._require(share)
        table = past.phases or (Phase(0, 0, self._setting),)
        changes = [Change(past.step, self._setting)] if table[-1].setting != self._setting else []
        self._order = Order(self._cuts, self._seed, table, changes, past.bookmarks)
        self._step, self._loop = past.step, None

    def _require(self, share: SourceShare) -> None:
        if share.name not in self._source.shards:
            raise CheckpointError(f"source {share.name!r} of the state is not among sources; add it, with weight 0")
        if self._source.fingerprint(share.name, share.num_shards) != share.fingerprint:
            raise CheckpointError(f"data of source {share.name!r} changed since the state was saved; restore it")
