"""The output layer of a model, made to give summed losses: the weights are used where ZeRO-3 gathers them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.models.blocks import MANY_FORMS
from pipeline.models.processor import has_wide_products
from pipeline.objectives.cross_entropy import chunked_loss, softmax_loss

_CHANGES_OF_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Of transformers' configs: the model does something with its logits after the output layer."""


class OutputLayer:
    """Stands in for the forward pass of a linear output layer. It is no module, so no parameter has two names."""

    def __init__(self, layer: nn.Linear, z_loss: float, compile_loss: bool) -> None:
        """Replace the layer's forward pass by one that does the same until it is told labels."""
        self._layer, self._z_loss = layer, z_loss
        self._is_wide = has_wide_products(layer)
        self._logits = layer.forward
        self._softmax: Callable[..., Any] = softmax_loss
        if compile_loss:
            self._softmax = torch.compile(softmax_loss, dynamic=False, recompile_limit=MANY_FORMS)
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
        return chunked_loss(input, weight, bias, self._labels, self._z_loss, self._is_wide, self._softmax)


def find_output_layer(model: nn.Module) -> nn.Linear | None:
    """The linear layer whose outputs a transformers or peft model returns as logits; None if there is no such one."""
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if inner is None or any(getattr(inner.config, name, None) is not None for name in _CHANGES_OF_LOGITS):
        return None
    layer = inner.get_output_embeddings()
    return layer if isinstance(layer, nn.Linear) else None
