"""The phase table: what the order of samples depends on besides the seed, and since which step.

A new phase begins when weights, sequence length, packing, global batch or shards change, or when samples are skipped.
It holds where every source stood, so that the order of a phase never depends on how earlier ones were computed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pipeline.data.cuts import Cut, Packing, Taken


@dataclass(frozen=True)
class Cursor:
    """Where a source stands in its order."""

    epoch: int = 0
    """How often it has been gone through."""
    place: int = 0
    """Place of the open shard in the epoch's order of shards."""
    taken: int = 0
    """Sequences of the open shard that are used up."""
    earlier: tuple[Taken, ...] = ()
    """Other cuts that the open shard had before, in this epoch."""
    num_shards: int | None = None
    """Shards that take part in this epoch, where later ones were appended after it began."""


class Bookmark(NamedTuple):
    """Where a source stands once some of its sequences are used up, which packing would tell only shard by shard."""

    sequences: int
    """How many, since its mixture began."""
    cursor: Cursor


@dataclass(frozen=True)
class SourceShare:
    """One source of a mixture."""

    name: str
    """Name; it keys the source's order."""
    fingerprint: str
    """sha256 over its shards."""
    num_shards: int
    """How many shards it has; those that are appended join at its next epoch."""
    weight: int
    """Share of the samples, in 2^32nds."""


class DamagedChunk(NamedTuple):
    """A chunk of a source whose tokens are lost."""

    source: str
    """The source's name in the run."""
    shard: int
    """Number of its shard in the manifest."""
    chunk: int
    """Its number in the shard."""


class Holes(NamedTuple):
    """What is left out of a run's text: it becomes padding, and nothing else moves."""

    withdrawn: str = ""
    """sha256 over the ids of the documents that are not seen any more; empty: none."""
    quarantined: tuple[DamagedChunk, ...] = ()
    """Chunks whose tokens are lost, in their order."""


NO_HOLES = Holes()


@dataclass(frozen=True)
class Setting:
    """What may change from phase to phase."""

    sources: tuple[SourceShare, ...]
    """The mixture."""
    sequence_length: int
    """Tokens per sequence."""
    global_batch: int
    """Samples per step."""
    packing: Packing = "concat"
    """How documents become sequences."""
    mask_documents: bool = False
    """Whether documents in one sequence are kept apart."""
    holes: Holes = NO_HOLES
    """What becomes padding."""

    @property
    def keeps_apart(self) -> bool:
        """Whether documents of one sequence are kept apart: packed ones always."""
        return self.mask_documents or self.packing == "best_fit"

    def comes_as(self, other: "Setting") -> bool:
        """Whether the same sequences come in the same order under another setting, whatever is seen of them."""
        return replace(self, mask_documents=other.mask_documents, holes=other.holes) == other

    def without(self, lost: Iterable[DamagedChunk]) -> "Setting":
        """The same, with more chunks left out."""
        quarantined = tuple(sorted({*self.holes.quarantined, *lost}))
        return replace(self, holes=self.holes._replace(quarantined=quarantined))

    def in_windows(self) -> "Setting":
        """The same without packing."""
        return replace(self, packing="concat") if self.packing == "best_fit" else self

    @property
    def cut(self) -> Cut:
        """How shards are cut into sequences."""
        return Cut(self.sequence_length, self.packing)


@dataclass(frozen=True)
class Change:
    """Another setting from a step on, or a jump over what would have come."""

    step: int
    """The first step that it concerns, from 0."""
    setting: Setting | None = None
    """What holds from then on; None: what held before."""
    skipped_steps: int = 0
    """Steps' worth of samples that are passed over."""


@dataclass(frozen=True)
class Phase:
    """A stretch of steps with one setting."""

    first_step: int
    """First step, from 0."""
    first_sample: int
    """Number of samples used up or skipped before it."""
    setting: Setting
    """What holds."""
    cursors: tuple[tuple[str, Cursor], ...] = ()
    """Where each source stood when its mixture began; those that are not named, at their beginning."""
    offset: int = 0
    """Samples of its mixture that lie before its first one: after a skip, the mixture before goes on."""
    skipped_steps: int = 0
    """Steps' worth of samples right before its first one that were passed over."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = _PHASE.dump_python(self, mode="json")
        return values


_PHASE = TypeAdapter(Phase)


@dataclass(frozen=True)
class Past:
    """The state of the data: what a run has to know of the steps it made."""

    step: int
    """How many it made."""
    phases: tuple[Phase, ...]
    """By which phases; none where it made no step."""
    bookmarks: Mapping[str, Bookmark] = field(default_factory=dict)
    """Where packed sources of the last phase stand; nothing depends on them but time."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = _PAST.dump_python(self, mode="json")
        return values

    @staticmethod
    def from_json(values: Any) -> "Past":
        """The inverse of `to_json`. Raises ValueError if it is none."""
        return _PAST.validate_python(values)


_PAST = TypeAdapter(Past)
