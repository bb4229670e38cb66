"""Predicting the next token."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.data.batch import IGNORED
from pipeline.models.attention import packed_arguments
from pipeline.models.blocks import MANY_FORMS
from pipeline.objectives.objective import Objective
from pipeline.objectives.router import router_arguments, with_router_loss


class CausalLoss(Objective):
    """A causal language model whose forward pass returns the summed loss of a micro batch."""

    def __init__(self, model: nn.Module, compile_loss: bool = False, vocab_size: int | None = None) -> None:
        """Wrap a transformers or peft causal model; where `vocab_size` is given, ids from there on count nowhere."""
        super().__init__()
        self.model = model
        self._vocab_size = vocab_size
        self._sum = summed_loss
        if compile_loss:
            self._sum = torch.compile(summed_loss, dynamic=False, recompile_limit=MANY_FORMS)

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        bounds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Sum of the negative log-likelihoods in nats, a scalar in fp32.

        Args:
            input_ids: int64 of shape (B, L).
            labels: int64 of shape (B, L), already shifted; -100 is not scored.
            position_ids: int64 of shape (B, L): place of each token in its piece, where a row holds several; a new
                piece begins where they do not go on by one, and none sees another. None: every row is one piece.
            bounds: Their `piece_bounds`, where they are known already.
        """
        attention = self.model.config._attn_implementation
        packed = {} if position_ids is None else packed_arguments(position_ids, attention, bounds)
        routed = router_arguments(self.model)
        output = self.model(input_ids=input_ids, use_cache=False, **routed, **packed)
        loss, self.row_sums = self._sum(output.logits[..., : self._vocab_size], labels)
        return with_router_loss(loss, output.router_logits, labels, self.model.config) if routed else loss


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy in fp32, summed, 0 when no label is valid; and beside it the sums of rows, (B,), detached."""
    losses = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    rows = losses.view(labels.shape).sum(dim=1)
    return rows.sum(), rows.detach()
