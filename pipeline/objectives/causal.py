"""Predicting the next token."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.data.batch import IGNORED
from pipeline.models.attention import packed_arguments
from pipeline.models.blocks import MANY_FORMS
from pipeline.objectives.output_layer import OutputLayer, find_output_layer


class CausalLoss(nn.Module):
    """A causal language model whose forward pass returns the summed loss of a micro batch."""

    def __init__(self, model: nn.Module, compile_loss: bool = False, z_loss: float = 0.0) -> None:
        """Wrap a transformers or peft causal model; `z_loss` is the weight of log(Z)^2.

        Where its logits are those of a linear layer they are never in memory as a whole.
        """
        super().__init__()
        self.model = model
        self._z_loss = z_loss
        layer = find_output_layer(model)
        self._output = OutputLayer(layer, z_loss, compile_loss) if layer is not None else None
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
        if self._output is None:
            logits = self.model(input_ids=input_ids, use_cache=False, **packed).logits
            return self._sum(logits, labels, self._z_loss)
        with self._output.scoring(labels):
            loss: torch.Tensor = self.model(input_ids=input_ids, use_cache=False, **packed).logits
        return loss


def summed_loss(logits: torch.Tensor, labels: torch.Tensor, z_loss: float = 0.0) -> torch.Tensor:
    """Cross-entropy in fp32, summed, and `z_loss` times the sum of log(Z)^2; 0 when no label is valid."""
    logits, labels = logits.flatten(0, 1).float(), labels.flatten()
    loss = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    if z_loss:
        loss = loss + z_loss * logits.logsumexp(1).square().where(labels != IGNORED, 0).sum()
    return loss
