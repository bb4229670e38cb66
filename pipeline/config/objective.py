"""What a model learns to predict."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from pipeline.config.base import Config


class CausalObjective(Config):
    """The next token, by a decoder."""

    type: Literal["causal"]
    """Causal language modelling."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of log(Z)^2, which keeps logits from drifting (Chowdhery et al. 2022, section 5, takes 1e-4); 0 is off."""


class MaskedObjective(Config):
    """Tokens that are hidden, by an encoder. Of those chosen, 80 % are replaced by the mask token, 10 % by another
    token and 10 % stay (Devlin et al. 2018, arXiv:1810.04805); others are chosen each time a text comes."""

    type: Literal["masked"]
    """Masked language modelling."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    """Share of each sequence's tokens that is chosen, rounded to whole tokens; end-of-document tokens never are."""
    whole_words: bool = False
    """Whether a word's tokens are chosen together. Words that would exceed the share are left, so it is a little
    less."""


Objective = Annotated[CausalObjective | MaskedObjective, Field(discriminator="type")]
