"""The phase table: what the order of samples depends on besides the seed, and since which step.

A new phase begins when weights, sequence length, global batch or shards change, or when samples are skipped.
It holds where every source stood, so that the order of a phase never depends on how earlier ones were computed.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Cursor:
    """A place in a source: `taken` sequences of the `shard`-th shard in the order of `epoch` are used up."""

    epoch: int = 0
    shard: int = 0
    taken: int = 0


@dataclass(frozen=True)
class PhaseSource:
    """One source in a phase."""

    name: str
    """Name; it keys the source's order."""
    fingerprint: str
    """sha256 over its shards."""
    weight: int
    """Share of the samples, in 2^32nds."""
    cursor: Cursor = Cursor()
    """Where it stood when the phase began."""


@dataclass(frozen=True)
class Phase:
    """A stretch of steps with one setting."""

    first_step: int
    """First step, from 0."""
    first_sample: int
    """Number of samples used up or skipped before it."""
    sources: tuple[PhaseSource, ...]
    """The mixture."""
    sequence_length: int
    """Tokens per sequence."""
    global_batch: int
    """Samples per step."""
    packing: Literal["concat", "conversation"] = "concat"
    """How documents become sequences: windows over the stream, or one conversation each."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Phase":
        """The inverse of `to_json`."""
        sources = tuple(PhaseSource(**{**source, "cursor": Cursor(**source["cursor"])}) for source in values["sources"])
        return Phase(**{**values, "sources": sources})


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """The phase that a step belongs to."""
    return max((phase for phase in phases if phase.first_step <= step), key=lambda phase: phase.first_step)
