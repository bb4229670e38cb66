"""Predicting masked tokens."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.data.batch import IGNORED
from pipeline.data.noise import most_chosen
from pipeline.models.blocks import MANY_FORMS
from pipeline.models.encoders import hidden_states, logits_of
from pipeline.objectives.objective import Objective


class MaskedLoss(Objective):
    """A masked language model whose forward pass returns the summed loss of a micro batch."""

    def __init__(self, model: nn.Module, share: float, compile_loss: bool = False) -> None:
        """Wrap a transformers masked model; `share` bounds the chosen tokens of a row, as `Noise` chooses them."""
        super().__init__()
        self.model = model
        self._share = share
        self._losses = _losses
        if compile_loss:
            self._losses = torch.compile(_losses, dynamic=False, recompile_limit=MANY_FORMS)

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        bounds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Sum of the negative log-likelihoods in nats, a scalar in fp32. There are logits at chosen positions only.

        Args:
            input_ids: int64 of shape (B, L), noise included.
            labels: int64 of shape (B, L): the tokens to be found; -100 is not scored.
            position_ids: int64 of shape (B, L): place of each token in its piece, where a row holds several; a new
                piece begins where they do not go on by one, and none sees another. None: every row is one piece.
            bounds: Their `piece_bounds`, where they are known already.
        """
        number, length = labels.shape
        hidden = hidden_states(self.model, input_ids, position_ids, bounds).flatten(0, 1)
        # So many always, the surplus unscored: their number, which changes, would have to be waited for.
        size = number * most_chosen(self._share, length)
        places = torch.nonzero_static(labels.flatten() != IGNORED, size=size, fill_value=-1)[:, 0]
        scored = labels.flatten()[places].masked_fill(places < 0, IGNORED)
        losses = self._losses(logits_of(self.model, hidden[places]), scored)
        rows = torch.zeros(number, device=losses.device).index_add(0, places.clamp(min=0) // length, losses.detach())
        self.row_sums = rows
        return losses.sum()


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")
