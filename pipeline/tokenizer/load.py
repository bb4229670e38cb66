"""Any tokenizer folder, opened."""

from pathlib import Path

from pipeline.errors import TokenizerError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.huggingface import TOKENIZER_NAME, HuggingFaceTokenizer
from pipeline.tokenizer.sentencepiece import MODEL_NAME, SentencePieceTokenizer


def tokenizer_fault(folder: Path, fingerprint: str) -> str | None:
    """What is wrong with a tokenizer that should have a fingerprint, in words; None if nothing is."""
    try:
        found = load_tokenizer(folder).fingerprint()
    except TokenizerError as error:
        return str(error)
    return None if found == fingerprint else "is another one than the tokens were made with"


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a folder: `tokenizer.model` (sentencepiece) or `tokenizer.json` (Hugging Face).

    Raises:
        TokenizerError: The folder holds neither, or a damaged one.
    """
    path = Path(folder)
    if (path / MODEL_NAME).is_file():
        return SentencePieceTokenizer((path / MODEL_NAME).read_bytes())
    if (path / TOKENIZER_NAME).is_file():
        return HuggingFaceTokenizer(path)
    if path.is_file():
        raise TokenizerError(f"tokenizer {folder} is a file; give its folder, {path.parent}")
    raise TokenizerError(f"tokenizer {folder} has neither {MODEL_NAME} nor {TOKENIZER_NAME}; give a tokenizer's folder")
