"""What an exported folder is questioned with: held-out text of the run's data, if still there, and fixed text."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pipeline.config.data import InstructData
from pipeline.corpus.corpus import open_corpus
from pipeline.data.chat import Message
from pipeline.errors import CorpusError
from pipeline.evaluation.baselines import validation_texts
from pipeline.evaluation.pairs import read_pairs
from pipeline.generation.generate import max_positions
from pipeline.stages.trained import TrainedModel

FIXED_TEXTS = (
    'def area(width: float, height: float) -> float:\n    """Product of the sides."""\n\treturn width * height\n',
    "  Two spaces before, three   between, none after.\n\n\nÄnderungen — 数据 🚀 \u00a0e\u0301 12345.678",
    "The",
)
FIXED_CHAT = (Message(role="user", content="Describe:\n    def area(width, height): return width * height"),)

NUM_TEXTS = 4
"""Held-out texts."""
MAX_CHARACTERS = 4096
"""Of each held-out text."""
MAX_TOKENS = 256
"""Of each sequence of ids."""


@dataclass(frozen=True)
class Probes:
    """Questions with exact answers."""

    texts: tuple[str, ...]
    """To be tokenized and back."""
    sequences: tuple[tuple[int, ...], ...]
    """Ids to compute logits for."""
    chats: tuple[tuple[Message, ...], ...]
    """Conversations up to the answer, to be put into the chat form."""


def find_probes(trained: TrainedModel) -> Probes:
    """Probes for a run: its first held-out texts, where its data is still at hand, and fixed ones."""
    tokenizer = trained.tokenizer
    texts = (*islice(_without_control_words(trained), NUM_TEXTS), *FIXED_TEXTS)
    length = min(MAX_TOKENS, max_positions(trained.model) or MAX_TOKENS)
    sequences = tuple(tuple(tokenizer.encode(text)[:length]) for text in texts)
    return Probes(texts, (*sequences, (tokenizer.eos_id,)), (FIXED_CHAT,))


def _without_control_words(trained: TrainedModel) -> Iterator[str]:
    """Held-out texts that do not spell a control token, which Hugging Face tokenizers read as that token."""
    words = ("<unk>", "<s>", "</s>", "<pad>", "<|")
    for text in _held_out(trained):
        if text and not any(word in text for word in words):
            yield text[:MAX_CHARACTERS]


def _held_out(trained: TrainedModel) -> Iterator[str]:
    data = trained.config.data
    try:
        if isinstance(data, InstructData):
            for conversation in read_pairs(data.validation):
                yield from (message["content"] for message in conversation)
        else:
            for corpus in dict.fromkeys(source.corpus for source in data.sources):
                yield from validation_texts(open_corpus(corpus, data.cache), trained.tokenizer)
    except CorpusError:
        return  # an export must be possible where the data is not
