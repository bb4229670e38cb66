"""What a model learns to predict."""

from typing import Literal

from pydantic import NonNegativeFloat

from pipeline.config.base import Config


class CausalObjective(Config):
    """The next token, by a decoder."""

    type: Literal["causal"]
    """Causal language modelling."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of log(Z)^2, which keeps logits from drifting (Chowdhery et al. 2022, section 5, takes 1e-4); 0 is off."""
