"""The output layer of a model, made to give summed losses: the weights are used where ZeRO-3 gathers them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.models.blocks import MANY_FORMS
from pipeline.models.processor import has_wide_products
from pipeline.objectives.cross_entropy import Softmax, chunked_loss, softmax_loss

_CHANGES_OF_LOGITS = (
    "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier",
)  # fmt: skip
"""Of transformers' configs: the model does something with its logits after the output layer."""


class OutputLayer:
    """Stands in for the forward pass of a linear output layer. It is no module, so no parameter has two names."""

    row_sums: torch.Tensor | None = None
    """Losses of each row of the last labels, summed: fp32 of shape (B,), detached."""

    def __init__(self, layer: nn.Linear, z_loss: float, vocab_size: int | None, compile_loss: bool) -> None:
        """Replace the layer's forward pass by one that does the same until it is told labels.

        Args:
            layer: The layer.
            z_loss: Weight of log(Z)^2.
            vocab_size: Ids from there on count nowhere.
            compile_loss: Whether to compile what comes behind logits.
        """
        self._layer, self._z_loss = layer, z_loss
        self._softmax: Softmax = softmax_loss
        if compile_loss:
            self._softmax = torch.compile(softmax_loss, dynamic=False, recompile_limit=MANY_FORMS)
        self._vocab_size = vocab_size if vocab_size is not None and vocab_size < layer.out_features else None
        self._is_wide = has_wide_products(layer)
        self._logits = layer.forward
        self._labels: torch.Tensor | None = None
        layer.forward = self._forward  # type: ignore[method-assign]

    @contextmanager
    def scoring(self, labels: torch.Tensor) -> Iterator[None]:
        """Inside, the layer returns the summed loss of these labels in place of logits."""
        self._labels = labels
        try:
            yield
        finally:
            self._labels = None

    def _forward(self, input: torch.Tensor) -> torch.Tensor:
        if self._labels is None:
            return self._logits(input)
        weight, bias = self._layer.weight, self._layer.bias
        if self._vocab_size is not None:
            weight, bias = weight[: self._vocab_size], None if bias is None else bias[: self._vocab_size]
        z_loss = self._z_loss if torch.is_grad_enabled() else 0.0  # it steers training, and measures nothing
        loss, losses = chunked_loss(input, weight, bias, self._labels, z_loss, self._is_wide, self._softmax)
        self.row_sums = losses.sum(1)
        return loss


def find_output_layer(model: nn.Module) -> nn.Linear | None:
    """The linear layer whose outputs a transformers or peft model returns as logits; None if there is no such one."""
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if inner is None or any(getattr(inner.config, name, None) is not None for name in _CHANGES_OF_LOGITS):
        return None
    layer = inner.get_output_embeddings()
    return layer if isinstance(layer, nn.Linear) else None
