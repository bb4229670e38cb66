"""Tokenizers for tests: sentencepiece models as `tarmac prep` trains them, and Hugging Face folders of other kinds."""

import io
import json
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer

CONTROL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def library_texts(pattern: str, number: int) -> list[str]:
    """Sources of Python's standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob(pattern))[:number]
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


def train(**changes: Any) -> bytes:
    """Content of a model trained on a part of the standard library."""
    model = io.BytesIO()
    settings = {
        "vocab_size": 1200,
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "byte_fallback": True,
        "allow_whitespace_only_pieces": True,
        "character_coverage": 0.9999,
        "num_threads": 2,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": 3,
        "control_symbols": list(CONTROL_TOKENS),
        "max_sentence_length": 1 << 16,
        "minloglevel": 2,
        **changes,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=_pieces(), model_writer=model, **settings)
    return model.getvalue()


def _pieces() -> Iterator[str]:
    for text in library_texts("json/*.py", 4) + library_texts("a*.py", 4):
        yield from (text[start : start + 8000] for start in range(0, len(text), 8000))


@cache
def trained() -> SentencePieceTokenizer:
    """The model that `tarmac prep` would train."""
    return SentencePieceTokenizer(train())


def write_byte_level(folder: Path, **config: Any) -> Path:
    """A byte-level BPE tokenizer (GPT-2's form) with one control token and one plain added token."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    made.train_from_iterator(library_texts("json/*.py", 2), trainer)
    made.add_tokens(["<tool>"])
    made.add_special_tokens(["<|user|>"])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return _write(made, folder, {"eos_token": "<|endoftext|>", **config})


def write_unigram(folder: Path) -> Path:
    """A Unigram tokenizer whose control token is a piece of the model, as in T5."""
    characters = sorted({character for text in library_texts("json/*.py", 1) for character in text} | {"\u2581"})
    vocab = [("</s>", 0.0), ("<unk>", 0.0), *((character, -5.0) for character in characters)]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(vocab, unk_id=1))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = tokenizers.decoders.Metaspace(prepend_scheme="never")
    made.add_special_tokens(["</s>", "<unk>"])
    return _write(made, folder, {"eos_token": {"content": "</s>"}})


def write_word_piece(folder: Path) -> Path:
    """A WordPiece tokenizer, as BERT has one."""
    vocab = {word: id_ for id_, word in enumerate(("[UNK]", "[SEP]", "[MASK]", "walk", "##ing", "##s", "."))}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    made.add_special_tokens(["[UNK]", "[SEP]", "[MASK]"])
    return _write(made, folder, {"sep_token": "[SEP]", "mask_token": "[MASK]"})


def _write(tokenizer: Any, folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
