"""Rows of the embeddings beyond the tokenizer's ids: good for matrix products, and nobody else's affair."""

from transformers import PreTrainedModel
from transformers.utils.logging import get_verbosity, set_verbosity, set_verbosity_error


def trim_vocabulary(model: PreTrainedModel, vocab_size: int) -> None:
    """Leave the rows out that no id of a tokenizer has, so that nothing can give them a probability."""
    if model.config.vocab_size <= vocab_size:
        return
    verbosity = get_verbosity()
    set_verbosity_error()  # it advises to resize to a multiple
    try:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    finally:
        set_verbosity(verbosity)
