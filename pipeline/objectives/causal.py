"""Predicting the next token."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.data.batch import IGNORED


class CausalLoss(nn.Module):
    """A causal language model whose forward pass returns the summed loss of a micro batch."""

    def __init__(self, model: nn.Module, compile_loss: bool = False) -> None:
        """Wrap a transformers or peft causal model."""
        super().__init__()
        self.model = model
        self._sum = torch.compile(summed_loss, dynamic=False) if compile_loss else summed_loss

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum of the negative log-likelihoods in nats, a scalar in fp32.

        Args:
            input_ids: int64 of shape (B, L).
            labels: int64 of shape (B, L), already shifted; -100 is not scored.
        """
        logits = self.model(input_ids=input_ids, use_cache=False).logits
        return self._sum(logits, labels)


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in fp32, summed; 0 when no label is valid."""
    return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
