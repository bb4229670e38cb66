"""The largest batch of a run holds what any of its batches may hold."""

import pytest

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.engine.out_of_memory import largest_batch

BERT = {"type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}
LLAMA = {**BERT, "type": "llama", "num_key_value_heads": 2}


def config(model=LLAMA, objective="causal", **data):
    return validate(RunConfig, {
        "stage": "pretrain", "output": "run", "model": {**model, "max_positions": 64}, "objective": {"type": objective},
        "data": {"type": "corpus", "sources": [{"corpus": "corpus", "source": "text"}], "sequence_length": 16, **data},
        "batch": {"global_size": 8, "micro_size": 2}, "duration": {"steps": 4},
        "optimizer": {"type": "adamw", "lr": 1e-3}, "engine": {"attention": "sdpa"},
    }, "test")  # fmt: skip


@pytest.mark.parametrize(("changes", "has_pieces", "length"), [
    ({}, False, 16),
    ({"mask_documents": True}, True, 16),
    ({"phases": [{"at_step": 2, "sequence_length": 32}]}, True, 32),  # what is left of open shards is cut anew
    ({"phases": [{"at_step": 2, "global_size": 16}]}, False, 16),
    ({"model": BERT, "objective": "masked"}, True, 16),  # what fills a row up is kept apart
])  # fmt: skip
def test_the_longest_rows_with_pieces_where_there_may_be_any(changes, has_pieces, length):
    batch = largest_batch(config(**changes), 2)
    assert len(batch.micro_batches) == 2
    (one, _) = batch.micro_batches
    assert one.input_ids.shape == (2, length)
    assert (one.position_ids is not None) == has_pieces
