"""A tokenizer as a Hugging Face folder that plain `AutoTokenizer` loads, with the same ids.

A sentencepiece BPE model merges, among all neighbours that together spell a piece, those whose piece has the highest
score, the leftmost first. A Hugging Face BPE model has a ranked list of pairs instead. So the list holds every pair of
pieces that spells a piece, ordered by that piece's score.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ExportError, TokenizerError
from pipeline.runtime.files import write_json, write_text
from pipeline.tokenizer.base import MASK_NAME, Tokenizer
from pipeline.tokenizer.huggingface import CONFIG_NAME, TOKENIZER_NAME, HuggingFaceTokenizer
from pipeline.tokenizer.sentencepiece import SPACE, SentencePieceTokenizer

CHAT_TEMPLATE_NAME = "chat_template.jinja"

PROBES = (
    'def area(width: float, height: float) -> float:\n    """Product."""\n\n\treturn width  *  height  # 12.5\r\n',
    "  Two spaces before, three   after   ",
    "Änderung — 数据 🚀 e\u0301 \u00a0 <0x0A> ##",
    " " * 75 + "\n" * 5 + "\t" * 9,
)
"""Texts that tokenizers tend to disagree on."""

_NORMALIZED = " \ufb01  \t\u00a0x\u0301 \n"
"""Text that any normalisation would change."""


def write_huggingface(tokenizer: Tokenizer, folder: str | Path, chat_template: str | None = None) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, and `chat_template.jinja` if a template is given.

    In the written form a text that spells a control token, such as `<|user|>`, becomes that token: chat templates
    need it. Everything else has the ids that `tokenizer` gives.

    Raises:
        ExportError: The tokenizer has no exact Hugging Face form: a sentencepiece model that normalises its input,
            is no BPE model nor one of characters, or has user-defined pieces.
    """
    path = Path(folder)
    if isinstance(tokenizer, SentencePieceTokenizer):
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / TOKENIZER_NAME, tokenizer_form(tokenizer))
        write_json(path / CONFIG_NAME, _config_form(tokenizer.processor))
    else:
        tokenizer.save(path)
    if chat_template is not None:
        write_text(path / CHAT_TEMPLATE_NAME, chat_template)
    verify_conversion(tokenizer, path, PROBES)


def verify_conversion(tokenizer: Tokenizer, folder: str | Path, texts: Iterable[str]) -> None:
    """Check that a written folder gives a tokenizer's ids, and its text back, for some texts.

    Raises:
        ExportError: It does not; names the first text and position that differ.
    """
    try:
        written = HuggingFaceTokenizer(folder)
    except TokenizerError as error:
        raise ExportError(f"export refused: {error}") from error
    for what in ("vocab_size", "eos_id", "pad_id"):
        expected, found = getattr(tokenizer, what), getattr(written, what)
        if expected != found:
            raise ExportError(f"export refused: {what} of {folder} is {found}, the tokenizer's is {expected}")
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text)
        _compare(f"ids of text {number}", ids, written.encode(text))
        _compare(f"decoded text {number}", tokenizer.decode(ids), written.decode(ids))


def _compare(what: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
    if expected == found:
        return
    pairs = zip(expected, found, strict=False)
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))
    raise ExportError(
        f"export refused: {what} differ from position {place}: {found[place : place + 5]!r} instead of"
        f" {expected[place : place + 5]!r}; the tokenizer has no exact Hugging Face form"
    )


def tokenizer_form(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """`tokenizer.json`. Its pieces hold real spaces, so that nothing is replaced and U+2581 is itself.

    Raises ExportError: It has no exact form; see `write_huggingface`.
    """
    processor = tokenizer.processor
    prefix = _dummy_prefix(processor)
    decoders: list[dict[str, Any]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(processor, id_) for id_ in _control_ids(processor)],
        "normalizer": {"type": "Prepend", "prepend": " "} if prefix else None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _model_form(processor),
    }


def _dummy_prefix(processor: Any) -> bool:
    """Whether the model puts a space before the text. Raises ExportError if it changes the text in any other way."""
    kept = _NORMALIZED.replace(" ", SPACE)
    normalized = processor.Normalize(_NORMALIZED)
    if normalized not in (kept, SPACE + kept):
        raise ExportError(
            "tokenizer normalises its input, which has no exact Hugging Face form;"
            " train it with normalization_rule_name identity and remove_extra_whitespaces false"
        )
    return bool(normalized != kept)


def _control_ids(processor: Any) -> list[int]:
    return [id_ for id_ in range(len(processor)) if processor.IsControl(id_) or processor.IsUnknown(id_)]


def _added_token(processor: Any, id_: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": processor.IdToPiece(id_), **flags, "special": True}


def _model_form(processor: Any) -> dict[str, Any]:
    pieces = _merged_pieces(processor)
    known = set(pieces)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": processor.IdToPiece(processor.unk_id()),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": any(processor.IsByte(id_) for id_ in range(len(processor))),
        "ignore_merges": False,
        "vocab": {_piece(processor, id_): id_ for id_ in range(len(processor))},
        "merges": [list(pair) for piece in pieces for pair in _splits(piece, known)],
    }


def _piece(processor: Any, id_: int) -> str:
    return str(processor.IdToPiece(id_)).replace(SPACE, " ")


def _merged_pieces(processor: Any) -> list[str]:
    """Pieces that text can become, in the order they are merged. Raises ExportError if it is not a plain BPE model."""
    reserved = (processor.IsControl, processor.IsUnknown, processor.IsByte)
    ids = [id_ for id_ in range(len(processor)) if not any(is_reserved(id_) for is_reserved in reserved)]
    scores, pieces = [processor.GetScore(id_) for id_ in ids], [_piece(processor, id_) for id_ in ids]
    is_ranked = all(score == -rank for rank, score in enumerate(scores))
    merges_nothing = all(len(piece) == 1 for piece in pieces)  # as a model of characters, whose scores are no ranks
    if not (is_ranked or merges_nothing) or any(processor.IsUnused(id_) for id_ in ids):
        raise ExportError(
            "tokenizer is not a plain sentencepiece BPE model, which has no exact Hugging Face form;"
            " train it with model_type bpe and without user-defined symbols"
        )
    return pieces


def _splits(piece: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """The pairs that spell a piece; no order among them was seen to change an id, not even in runs and repetitions."""
    for place in range(1, len(piece)):
        if piece[:place] in known and piece[place:] in known:
            yield piece[:place], piece[place:]


def _config_form(processor: Any) -> dict[str, Any]:
    """`tokenizer_config.json`."""
    roles = {
        "unk_token": processor.unk_id(),
        "bos_token": processor.bos_id(),
        "eos_token": processor.eos_id(),
        "pad_token": processor.pad_id() if processor.pad_id() >= 0 else processor.eos_id(),
        "mask_token": next((id_ for id_ in _control_ids(processor) if processor.IdToPiece(id_) == MASK_NAME), -1),
    }
    others = [id_ for id_ in _control_ids(processor) if id_ not in roles.values()]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": [processor.IdToPiece(id_) for id_ in others],
        **{role: processor.IdToPiece(id_) for role, id_ in roles.items() if id_ >= 0},
    }
