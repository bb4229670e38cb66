"""Which token comes next: the most likely one, or a draw from the head of the distribution.

Top-k keeps the k most likely tokens (Fan et al. 2018, arXiv:1805.04833); top-p then keeps the smallest set of those
whose probability reaches p (Holtzman et al. 2020, arXiv:1904.09751).
"""

from dataclasses import dataclass

import torch

from pipeline.errors import GenerationError


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn. Raises GenerationError for a setting that means nothing."""

    max_new_tokens: int = 128
    """Tokens to generate at most."""
    temperature: float = 0.8
    """Divides the logits; 0 always takes the most likely token."""
    top_k: int = 50
    """Keep so many tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep the smallest set of tokens with this probability; 1 keeps all."""
    seed: int = 0
    """Seeds the draws: same model, prompt, settings and seed, same tokens."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise GenerationError(f"max_new_tokens ({self.max_new_tokens}) must be at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise GenerationError(
                f"temperature ({self.temperature}) must be 0 (most likely token) or a positive number"
            )
        if self.top_k < 0:
            raise GenerationError(f"top_k ({self.top_k}) must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p ({self.top_p}) must be above 0 and at most 1 (all tokens)")
        if not 0 <= self.seed < 2**63:
            raise GenerationError(f"seed ({self.seed}) must be 0 or more and below 2**63")


def choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token's id.

    Args:
        logits: Shape (V,), any float type.
        sampling: The settings; of equally likely tokens the one with the lowest id comes first.
        generator: A generator on the CPU, so that a seed means the same on every device.

    Raises:
        GenerationError: The logits hold no largest number.
    """
    logits = logits.detach().to("cpu", torch.float32)
    if not bool(logits.max().isfinite()):
        raise GenerationError("the model's logits are not finite numbers: its training diverged; use an earlier step")
    if sampling.temperature == 0:
        return int((logits == logits.max()).nonzero()[0])
    logits, ids = torch.sort(logits - logits.max(), descending=True, stable=True)
    head = (logits / sampling.temperature)[: sampling.top_k or None].softmax(dim=0)
    before = head.cumsum(dim=0) - head
    nucleus = torch.where(before < sampling.top_p, head, 0.0)
    return int(ids[torch.multinomial(nucleus, 1, generator=generator)])
