"""Predicting the next token."""

import torch
from torch import nn

from pipeline.models.attention import packed_arguments
from pipeline.objectives.cross_entropy import softmax_loss
from pipeline.objectives.objective import Objective
from pipeline.objectives.output_layer import OutputLayer, find_output_layer
from pipeline.objectives.router import router_arguments, with_router_loss


class CausalLoss(Objective):
    """A causal language model whose forward pass returns the summed loss of a micro batch."""

    def __init__(
        self, model: nn.Module, compile_loss: bool = False, vocab_size: int | None = None, z_loss: float = 0.0
    ) -> None:
        """Wrap a transformers or peft causal model.

        Where its logits are those of a linear layer they are never in memory as a whole.

        Args:
            model: The model.
            compile_loss: Whether to compile what comes behind logits.
            vocab_size: Ids from there on count nowhere.
            z_loss: Weight of log(Z)^2, in training.
        """
        super().__init__()
        self.model = model
        self._vocab_size, self._z_loss = vocab_size, z_loss
        layer = find_output_layer(model)
        self._output = OutputLayer(layer, z_loss, vocab_size, compile_loss) if layer is not None else None

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
        arguments = {"input_ids": input_ids, "use_cache": False, **routed, **packed}
        if self._output is None:
            output = self.model(**arguments)
            logits = output.logits[..., : self._vocab_size]
            z_loss = self._z_loss if torch.is_grad_enabled() else 0.0
            loss, self.row_sums = summed_loss(logits, labels, z_loss)
        else:
            with self._output.scoring(labels):
                output = self.model(**arguments)
            loss, self.row_sums = output.logits, self._output.row_sums
        return with_router_loss(loss, output.router_logits, labels, self.model.config) if routed else loss


def summed_loss(logits: torch.Tensor, labels: torch.Tensor, z_loss: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and weighted log(Z)^2 in fp32, summed, 0 where no label is valid; and its sums by row, detached.

    Args:
        logits: Shape (B, L, V).
        labels: int64 of shape (B, L); -100 is not scored.
        z_loss: Weight of log(Z)^2.
    """
    losses, _ = softmax_loss(logits.flatten(0, 1), labels.flatten(), z_loss, learn=False)
    rows = losses.view(labels.shape).sum(1)
    return rows.sum(), rows.detach()
