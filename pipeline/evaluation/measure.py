"""What a model loses on held-out tokens: nats per token, perplexity, bits per byte."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from pipeline.data.batch import IGNORED, MicroBatch
from pipeline.models.encoders import hidden_states, logits_of


@dataclass(frozen=True)
class Measurement:
    """Three sums over scored tokens. Ranks that measured a share each add theirs; the ratios come last.

    The ratios raise ZeroDivisionError where nothing was scored.
    """

    loss_sum: float = 0.0
    """Nats."""
    tokens: int = 0
    """Scored tokens."""
    text_bytes: int = 0
    """UTF-8 bytes that the scored tokens stand for."""

    def __add__(self, other: "Measurement") -> "Measurement":
        return Measurement(
            self.loss_sum + other.loss_sum, self.tokens + other.tokens, self.text_bytes + other.text_bytes
        )

    @property
    def loss(self) -> float:
        """Nats per token; it depends on the tokenizer."""
        return self.loss_sum / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is beyond a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text, which models with different tokenizers can be compared by."""
        return self.loss_sum / math.log(2) / self.text_bytes


def measure(
    model: torch.nn.Module,
    micro_batches: Iterable[MicroBatch],
    byte_lengths: NDArray[Any],
    device: torch.device | str | None = None,
    is_masked: bool = False,
) -> Measurement:
    """Score every label of some micro batches; the model is in eval mode meanwhile.

    Args:
        model: Called with `input_ids` (B, L); gives an object with `logits` (B, L, V).
        micro_batches: Labels are already shifted; -100 is not scored.
        byte_lengths: UTF-8 bytes of each id, shape (V,), as `Tokenizer.byte_lengths` gives them.
        device: Where the model is; by default where its first parameter is.
        is_masked: Whether it is an encoder, and labels are tokens that are hidden in `input_ids`.

    Returns:
        The sums over this process's micro batches. Losses are fp32 per token and summed in fp64.
    """
    place = torch.device(device) if device is not None else next(model.parameters()).device
    lengths = torch.from_numpy(byte_lengths)
    loss_sum, total = torch.zeros((), dtype=torch.float64, device=place), Measurement()
    loss_of = _masked_loss_sum if is_masked else _loss_sum
    was_training = model.training
    model.eval()
    try:
        for micro_batch in micro_batches:
            loss_sum += loss_of(model, micro_batch, place)
            total += count(micro_batch.labels, lengths)
    finally:
        model.train(was_training)
    return Measurement(float(loss_sum)) + total


def count(labels: torch.Tensor, byte_lengths: torch.Tensor) -> Measurement:
    """The scored tokens among `labels` (on the CPU) and their bytes, with no loss yet."""
    scored = labels[labels != IGNORED]
    return Measurement(0.0, scored.numel(), int(byte_lengths[scored].sum()))


@torch.no_grad()
def _masked_loss_sum(model: torch.nn.Module, micro_batch: MicroBatch, device: torch.device) -> torch.Tensor:
    """The same of an encoder, which has logits at scored positions only."""
    positions = None if micro_batch.position_ids is None else micro_batch.position_ids.to(device)
    hidden, labels = hidden_states(model, micro_batch.input_ids.to(device), positions), micro_batch.labels.to(device)
    logits = logits_of(model, hidden[labels != IGNORED])
    return cross_entropy(logits.float(), labels[labels != IGNORED], reduction="none").double().sum()


@torch.no_grad()
def _loss_sum(model: torch.nn.Module, micro_batch: MicroBatch, device: torch.device) -> torch.Tensor:
    """Summed loss of one micro batch, fp64, without waiting for the device."""
    logits_BLV = model(input_ids=micro_batch.input_ids.to(device), use_cache=False).logits
    labels_BL = micro_batch.labels.to(device)
    # Row by row: the fp32 copy of the logits is then never larger than one sequence's.
    rows = [
        cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none").double().sum()
        for logits, labels in zip(logits_BLV, labels_BL, strict=True)
    ]
    return torch.stack(rows).sum()
