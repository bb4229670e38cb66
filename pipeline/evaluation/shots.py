"""In-context learning, measured: does a model answer better after it has been shown k examples?

Every k scores the same answers. The control shows the same examples with their answers exchanged among themselves:
what it gains over no examples comes from the look of the task, what true examples gain beyond it from their content
(Min et al. 2022, arXiv:2202.12837).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data import batch
from pipeline.data.chat import Message
from pipeline.errors import CorpusError
from pipeline.evaluation.measure import Measurement, measure
from pipeline.evaluation.pairs import Conversation
from pipeline.runtime.seeds import derive_seed
from pipeline.tokenizer.base import Tokenizer

SHOTS = (0, 1, 2, 4)

Render = Callable[[Conversation, Tokenizer], tuple[list[int], list[bool]]]
"""Ids of a conversation, and for each whether the assistant said it."""


@dataclass(frozen=True)
class Target:
    """A pair whose answer is scored, and the pairs that may be shown before it, each with another answer."""

    pair: Conversation
    """User and assistant message."""
    examples: tuple[Conversation, ...]
    """As many as the largest k; k shots show the first k."""

    def conversation(self, shots: int, exchanged: bool = False) -> list[Message]:
        """The pair after `shots` examples, whose answers are moved on by one example if `exchanged`."""
        shown = self.examples[:shots]
        answers = [shown[(number + exchanged) % shots][1] for number in range(shots)]
        turns = [turn for example, answer in zip(shown, answers, strict=True) for turn in (example[0], answer)]
        return [*turns, *self.pair]


@dataclass(frozen=True)
class ShotRow:
    """The measured loss of one number of examples."""

    shots: int
    """k."""
    exchanged: bool
    """Whether this is the control; it needs at least two examples."""
    total: Measurement
    """All answers together."""
    difference: float
    """Nats per token above (or, negative, below) the loss without examples."""
    error: float
    """Standard error of `difference` over the answers, each paired with itself; not a number for a single answer."""


def render_plain(messages: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """A conversation as plain text without roles, for models that never saw a chat; a blank line closes an answer."""
    ids: list[int] = []
    said: list[bool] = []
    for message in messages:
        answer = message["role"] == "assistant"
        part = tokenizer.encode(message["content"] + ("\n\n" if answer else "\n"))
        ids += part
        said += [answer] * len(part)
    return ids, said


def choose_targets(
    pairs: Sequence[Conversation],
    tokenizer: Tokenizer,
    render: Render,
    sequence_length: int,
    num_targets: int = 64,
    max_shots: int = max(SHOTS),
    seed: int = 0,
) -> list[Target]:
    """Targets that fit `sequence_length` with all their examples; a function of the arguments alone.

    Only pairs of at most sequence_length / (max_shots + 1) tokens take part, one per different answer, in an order
    keyed by `seed`; each target's examples are those that come next in that order.

    Raises:
        CorpusError: There are not enough short pairs for one target.
    """
    limit = sequence_length // (max_shots + 1)
    by_answer = {pair[1]["content"]: pair for pair in reversed(pairs)}
    lengths = {answer: len(render(pair, tokenizer)[0]) for answer, pair in by_answer.items()}
    short = [pair for answer, pair in by_answer.items() if lengths[answer] <= limit]
    if len(short) <= max_shots:
        raise CorpusError(
            f"{len(short)} pairs have at most {limit} tokens, {max_shots + 1} are needed for {max_shots} shots"
            f" in a sequence of {sequence_length}, and the shortest of {len(lengths)} pairs has"
            f" {min(lengths.values(), default=0)}; give shorter ones"
        )
    short.sort(key=lambda pair: derive_seed(seed, pair[0]["content"], pair[1]["content"]))
    ring = short + short[:max_shots]
    return [
        Target(pair, tuple(ring[number + 1 : number + 1 + max_shots]))
        for number, pair in enumerate(short[:num_targets])
    ]


def measure_shots(
    model: torch.nn.Module,
    targets: Sequence[Target],
    tokenizer: Tokenizer,
    render: Render,
    shots: Sequence[int] = SHOTS,
) -> list[ShotRow]:
    """One row per k, and one more with exchanged answers for each k of at least 2. The first k must be 0."""
    assert shots[0] == 0, "differences are to no examples"
    cases = [(k, False) for k in shots] + [(k, True) for k in shots if k >= 2]
    byte_lengths = tokenizer.byte_lengths()
    parts = [
        [
            measure(
                model, [_alone(answer_sequence(target.conversation(k, exchanged), tokenizer, render))], byte_lengths
            )
            for target in targets
        ]
        for k, exchanged in cases
    ]
    return [
        ShotRow(k, exchanged, sum(part, Measurement()), *_paired_difference(part, parts[0]))
        for (k, exchanged), part in zip(cases, parts, strict=True)
    ]


def answer_sequence(messages: Conversation, tokenizer: Tokenizer, render: Render) -> batch.Sequence:
    """A conversation of which only the last answer is scored."""
    ids, said = render(messages, tokenizer)
    first = len(said) - said[::-1].index(False)
    tokens = np.array(ids, dtype=np.int64)
    labels = np.where(np.arange(1, len(ids)) >= first, tokens[1:], batch.IGNORED)
    return batch.Sequence(tokens[:-1], labels)


def _alone(sequence: batch.Sequence) -> batch.MicroBatch:
    return batch.stack([sequence], 1, len(sequence.inputs), pad_id=0)  # nothing is padded


def _paired_difference(part: Sequence[Measurement], base: Sequence[Measurement]) -> tuple[float, float]:
    """Difference of two losses per token over the same answers, and its standard error (of a ratio of two sums)."""
    tokens = np.array([one.tokens for one in part])
    changes = np.array([one.loss_sum - other.loss_sum for one, other in zip(part, base, strict=True)])
    difference = float(changes.sum() / tokens.sum())
    if len(part) < 2:
        return difference, math.nan
    spread = (changes - difference * tokens).std(ddof=1)
    return difference, float(spread / math.sqrt(len(part)) / tokens.mean())
