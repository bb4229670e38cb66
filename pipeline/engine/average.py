"""An exponential moving average of the weights: each rank's own part of them, in fp32, without a collective."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class WeightAverage:
    """The average of tensors that an optimizer updates (Polyak and Juditsky 1992; as decayed, Kingma and Ba 2014, 7.2).

    average ← decay_k · average + (1 - decay_k) · weight, after each update made, with decay_k = min(decay,
    (1 + k) / (10 + k)) after k earlier steps: the first weights, which mean nothing, are forgotten in proportion.
    """

    def __init__(self, weights: Sequence[torch.Tensor], decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            weights: The fp32 tensors, which live as long as this does.
            decay: How much of the average stays at each update.
        """
        self._weights, self._decay = [weight.detach() for weight in weights], decay
        self._averages = [weight.clone() for weight in self._weights]
        self._places = {id(weight): place for place, weight in enumerate(weights)}

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The live average of one of the tensors, in its shape."""
        return self._averages[self._places[id(weight)]]

    def update(self, step: int) -> None:
        """Take up the weights after the update that follows `step` earlier steps of the run."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)

    def restart(self) -> None:
        """Begin again with the weights as they are."""
        torch._foreach_copy_(self._averages, self._weights)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within it, the tensors hold the averages, and the averages the weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for weight, average in zip(self._weights, self._averages, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
