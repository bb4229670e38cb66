"""Small real things for tests: a tokenizer trained here, a corpus of a few documents, a Llama of 2 layers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.config.load import dump, validate
from pipeline.config.run import RunConfig
from pipeline.corpus.chunk import Chunk, DocumentRecord
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import Manifest, ShardEntry, TokenizerEntry, write_manifest
from pipeline.corpus.writer import write_shard
from pipeline.engine.checkpoint.commit import Commit, begin, commit, hashed_file
from pipeline.engine.checkpoint.index import INDEX_NAME, index_of
from pipeline.engine.checkpoint.tensors import Part, write_tensors
from pipeline.runtime.files import write_text
from pipeline.stages.seal import STATE_KEY, seal
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer

CONTROL_TOKENS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]

LLAMA = {
    "type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 2,
    "num_heads": 4,
    "num_key_value_heads": 2,
}
"""The form of `small_model`, as a config block."""


def small_texts(number: int = 60, first: int = 0) -> list[str]:
    """Texts that repeat themselves enough to be learned."""
    verbs, nouns = ("adds", "moves", "sorts", "reads", "joins"), ("apples", "files", "words", "rows")
    return [
        f'def step_{n}(value):\n    """It {verbs[n % 5]} the {nouns[n % 4]}."""\n    return value + {n}\n'
        for n in range(first, first + number)
    ]


def small_tokenizer(folder: Path, vocab_size: int = 400, control_tokens: Sequence[str] = CONTROL_TOKENS) -> Tokenizer:
    """A byte-fallback BPE tokenizer trained on `small_texts`, saved in `folder`."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(small_texts(200)),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        pad_id=3,
        control_symbols=list(control_tokens),
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return load_tokenizer(folder)


def small_model(vocab_size: int, max_positions: int = 256, seed: int = 0, std: float = 0.2) -> LlamaForCausalLM:
    """A Llama with random weights, spread wide enough that its distributions are not flat."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        initializer_range=std,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=3,
        use_cache=False,
    )
    return LlamaForCausalLM(config).eval()


def small_corpus(folder: Path, tokenizer: Tokenizer, train: Sequence[str], validation: Sequence[str]) -> Corpus:
    """A corpus with one source, `small`, and one shard in each split."""
    tokenizer.save(folder / "tokenizer")
    write_manifest(
        folder,
        Manifest(
            format_version=1,
            dtype="uint16",
            tokenizer=TokenizerEntry(
                fingerprint=tokenizer.fingerprint(), vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id
            ),
            config_sha256="0" * 64,
            versions={},
            train={"small": [_write_shard(folder / "shards", tokenizer, train)]},
            validation={"small": [_write_shard(folder / "validation", tokenizer, validation)]},
        ),
    )
    return Corpus(folder)


def _write_shard(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> ShardEntry:
    documents = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode_batch(texts)]
    records = [
        DocumentRecord(f"{number:032x}", "small.txt", number, len(text.encode())) for number, text in enumerate(texts)
    ]
    tokens = np.array([token for ids in documents for token in ids], dtype=np.uint16)
    ends = np.cumsum([len(ids) for ids in documents], dtype=np.uint32)
    return write_shard(folder / "small" / "small-000000.tar", [Chunk(tokens, ends, tuple(records))])


def small_run(
    folder: Path,
    tokenizer: Tokenizer,
    model: LlamaForCausalLM,
    data: dict[str, Any],
    precision: str = "fp32",
    step: int = 3,
) -> Path:
    """A run folder with one committed checkpoint of `model`, as a ZeRO-0 run leaves it; `data` is a config block."""
    pretrain = data["type"] == "corpus"
    config = {
        "stage": "pretrain" if pretrain else "finetune",
        "output": str(folder),
        "model": LLAMA if pretrain else {"type": "checkpoint", "run": str(folder)},
        "data": data,
        "batch": {"global_size": 2, "micro_size": 1},
        "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "engine": {"zero_stage": 0 if precision == "fp32" else 1, "precision": precision},
    }
    folder.mkdir()
    write_text(folder / "config.yaml", dump(validate(RunConfig, config, "small run")))
    write_text(folder / "model.json", model.config.to_json_string())
    tokenizer.save(folder / "tokenizer")
    weights = {f"master/model.{name}": weight for name, weight in model.named_parameters()}
    state = {"tokenizer": tokenizer.fingerprint(), STATE_KEY: seal(folder)}
    small_checkpoint(folder / "checkpoints", step, weights, state)
    return folder


def small_checkpoint(
    checkpoints: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any] | None = None
) -> Commit:
    """A committed checkpoint of whole tensors by kind and name, as one rank writes it."""
    partial = begin(checkpoints, step)
    parts = [
        Part(key, tuple(one.shape), 0, one.numel(), one.dtype, lambda one=one: one.detach().reshape(-1))
        for key, one in tensors.items()
    ]
    file, written = write_tensors(partial, "state/rank-00000.safetensors", parts)
    index = hashed_file(partial, INDEX_NAME, index_of("AdamW", written, {}).to_bytes())
    record = Commit(step, 1, 0, {}, dict(state or {}), (index, file))
    commit(partial, record)
    return record
