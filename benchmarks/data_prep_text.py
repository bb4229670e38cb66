"""The text of the data preparation's benchmark: what lies on this machine anyway, and a tokenizer trained on it.

Sources and text files of the standard library and of the installed packages, or of a folder that is named. They are
cut at line ends to documents of at most 8 kB, each of which comes once.
"""

import json
import re
import shutil
import sysconfig
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import xxhash

from data_prep.tokenizer.train import train_tokenizer
from pipeline.config.prep.tokenizer import TrainTokenizer

SUFFIXES = (".py", ".pyi", ".txt", ".md", ".rst", ".h", ".hpp")
VOCAB_SIZE = 16_000
_DOCUMENT_CHARACTERS = 8000
_SHORTEST = 200
_FILE_BYTES = 10_000_000
_SAMPLE_BYTES = 10_000_000
_WORDS = re.compile(r"((?:\w+\W+){4})")
_CONTROL = re.compile(r"</?s>|<unk>|<pad>|<\|\w+\|>|\u2581")
"""Names of the tokenizer's control tokens, which some contenders take for the tokens themselves, and the character that
sentencepiece takes for a space."""


@dataclass(frozen=True)
class Text:
    """Text on disk."""

    folder: str
    """Where `text/*.jsonl` and `tokenizer/` are."""
    megabytes: float
    """What was asked for."""
    documents: int
    """How many."""
    text_bytes: int
    """Their UTF-8 bytes, without JSON."""
    made_from: str
    """In words."""
    rules: str
    """Checksum of the rules that it was made by: this file."""

    @property
    def files(self) -> list[str]:
        """The JSON lines."""
        return sorted(str(path) for path in Path(self.folder, "text").glob("*.jsonl"))

    @property
    def tokenizer(self) -> str:
        """The folder of the tokenizer."""
        return str(Path(self.folder, "tokenizer"))


def prepare(folder: Path, megabytes: float, source: str | None) -> Text:
    """Text of so many megabytes in `folder`, as it was left there by an earlier call or made now.

    Where there is less text than that, it is repeated with a salt in every fifth word, so that no repetition is a
    duplicate or nearly one.
    """
    facts = folder / "text.json"
    made_from = source or "the standard library and the installed packages"
    rules = xxhash.xxh3_64_hexdigest(Path(__file__).read_bytes())
    if facts.exists():
        values = json.loads(facts.read_text())
        if (values["megabytes"], values["made_from"], values.get("rules")) == (megabytes, made_from, rules):
            return Text(**values)
    if not _files(source):
        raise SystemExit(f"--text {source} holds no {', '.join(SUFFIXES)} file; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "text").mkdir(parents=True)
    num_documents, num_bytes = _write(folder / "text", megabytes * 1e6, source)
    text = Text(str(folder), megabytes, num_documents, num_bytes, made_from, rules)
    _train(text)
    facts.write_text(json.dumps(asdict(text)))
    return text


def documents(text: Text) -> Iterator[str]:
    """The documents, in the order of the files."""
    for path in text.files:
        with open(path, encoding="utf-8") as file:
            yield from (json.loads(line)["text"] for line in file)


def _write(folder: Path, limit: float, source: str | None) -> tuple[int, int]:
    num_documents = num_bytes = num_files = 0
    with ExitStack() as files:
        for name, document in _salted(source):
            if num_bytes >= limit:
                break
            if num_bytes >= num_files * _FILE_BYTES:
                file = files.enter_context((folder / f"{num_files:04d}.jsonl").open("w", encoding="utf-8"))
                num_files += 1
            line = {"text": document, "url": f"https://example.com/{name}"}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            num_bytes += len(document.encode())
            num_documents += 1
    return num_documents, num_bytes


def _salted(source: str | None) -> Iterator[tuple[str, str]]:
    """All documents, then all with a salt, then with another, for ever."""
    yield from _unique(source)
    for salt in count(1):
        for name, document in _unique(source):
            yield f"{salt}/{name}", _WORDS.sub(rf"\g<1>salt{salt} ", document)


def _unique(source: str | None) -> Iterator[tuple[str, str]]:
    seen = set[int]()
    for path, name in _files(source):
        try:
            text = unicodedata.normalize("NFC", path.read_text("utf-8").replace("\0", ""))
        except (OSError, UnicodeDecodeError):
            continue
        for number, document in enumerate(_cut(text)):
            hash_ = xxhash.xxh3_64_intdigest(document.encode())
            if len(document) >= _SHORTEST and hash_ not in seen and not _CONTROL.search(document):
                seen.add(hash_)
                yield f"{name}/{number}", document


def _files(source: str | None) -> list[tuple[Path, str]]:
    """Files and their names, in an order that mixes the packages."""
    paths = sysconfig.get_paths()
    roots = [Path(source)] if source else [Path(paths["stdlib"]), Path(paths["purelib"])]
    found = {
        path.relative_to(root).as_posix(): path for root in roots for path in root.rglob("*") if path.suffix in SUFFIXES
    }
    names = sorted(found, key=lambda name: (xxhash.xxh3_64_intdigest(name.encode()), name))
    return [(found[name], name) for name in names]


def _cut(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = start + _DOCUMENT_CHARACTERS
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        yield text[start:stop]
        start = stop


def _train(text: Text) -> None:
    """Train the tokenizer that all contenders use."""
    config = TrainTokenizer(type="train", vocab_size=VOCAB_SIZE, sample_bytes=_SAMPLE_BYTES)
    step = max(1, text.text_bytes // _SAMPLE_BYTES)
    sample = (document for number, document in enumerate(documents(text)) if number % step == 0)
    train_tokenizer(sample, config).save(Path(text.tokenizer))
