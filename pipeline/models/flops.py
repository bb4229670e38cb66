"""Floating-point operations of a training step, for model FLOPs utilisation (Chowdhery et al. 2022, appendix B)."""

from transformers import PretrainedConfig


def training_flops_per_token(config: PretrainedConfig, sequence_length: int) -> float:
    """FLOPs per token of one forward and backward pass over a Llama-form model, without recomputation.

    6 for each weight that takes part in a matrix product (2 forward, 4 backward; the embedding look-up is none), and
    for attention 6 * L * num_layers * num_heads * head_size: two products of L * head_size multiply-adds per head, of
    which causal masking leaves half.
    """
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    query = config.num_attention_heads * head_size
    key_value = config.num_key_value_heads * head_size
    attention_weights = config.hidden_size * (2 * query + 2 * key_value)
    feed_forward_weights = 3 * config.hidden_size * config.intermediate_size
    weights = config.num_hidden_layers * (attention_weights + feed_forward_weights)
    weights += config.hidden_size * config.vocab_size
    return 6.0 * weights + 6.0 * sequence_length * config.num_hidden_layers * query


def encoder_flops_per_token(config: PretrainedConfig, sequence_length: int, share: float) -> float:
    """FLOPs per token of one forward and backward pass over an encoder that predicts a share of its tokens.

    As for decoders, but nothing is masked: 12 * span * num_layers * hidden_size for attention, where local attention
    spans its window and the token itself. The head is taken of the predicted tokens alone.
    """
    width, length = config.hidden_size, sequence_length
    is_gated = config.model_type == "modernbert"
    feed_forward = (3 if is_gated else 2) * width * config.intermediate_size
    weights = config.num_hidden_layers * (4 * width * width + feed_forward)
    weights += share * (width * width + width * config.vocab_size)
    kinds = config.layer_types if is_gated else ["full_attention"] * config.num_hidden_layers
    spans = [length if kind == "full_attention" else min(length, config.local_attention + 1) for kind in kinds]
    return 6.0 * weights + 12.0 * sum(spans) * width
