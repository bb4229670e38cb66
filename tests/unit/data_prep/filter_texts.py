"""Texts to judge: made ones that break each rule, and Python's own documentation and code."""

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

WORDS = """
    the of and to in that was his he it with is for as had you not be her on at by which have or from
    harbour lantern meadow quarrel velvet winter yonder thicket saddle pewter orchard mirror kettle ivory
"""
COMMON, RARE = (line.split() for line in WORDS.strip().splitlines())
SENTENCE_ENDS = [".", ".", ".", "?", "!", '."', "...", ",", ""]
NOTICES = [
    "Please enable javascript to read this page in full.",
    "This site uses cookies as told in our privacy policy.",
    "Lorem ipsum dolor sit amet in a sentence of its own.",
    "A javascript { error } came up, so nothing is shown.",
    "The function returns { nothing } at all to the caller.",
    "It was told before.[12] And it was doubted later.[citation needed]",
    "x" * 1200 + " is a long word in a line.",
]


def sentence(random: Random, num_words: int = 12) -> str:
    words = random.choices(COMMON, k=num_words // 2) + random.choices(RARE, k=num_words - num_words // 2)
    random.shuffle(words)
    return " ".join(words).capitalize() + random.choice(SENTENCE_ENDS)


def prose(random: Random) -> str:
    return " ".join(sentence(random, random.randint(3, 20)) for _ in range(random.randint(1, 6)))


LINES: dict[str, Callable[[Random], str]] = {
    "prose": prose,
    "bullet": lambda random: random.choice(["• ", "- ", "  • "]) + sentence(random, 6),
    "ellipsis": lambda random: sentence(random, 8).rstrip(".") + random.choice(["...", "…"]),
    "hashes": lambda random: "#tag " * random.randint(1, 5) + sentence(random, 4),
    "numbers": lambda random: " ".join(str(random.randint(0, 9999)) for _ in range(12)),
    "letters": lambda random: " ".join(random.choices("abcdefgh", k=20)),
    "long": lambda random: " ".join("".join(random.choices(RARE, k=3)) for _ in range(6)) + ".",
    "menu": lambda random: random.choice(RARE).title(),
    "same": lambda random: "The same line of the same text comes back every time, word for word.",
    "phrase": lambda random: "in the winter of the year and the quarrel of the meadow " + sentence(random, 4),
    "notice": lambda random: random.choice(NOTICES),
    "blank": lambda random: "",
}


def made_texts(num_texts: int = 400) -> Iterator[str]:
    """Texts of one to three kinds of lines, in varying shares."""
    for number in range(num_texts):
        random = Random(number)
        kinds = random.sample(list(LINES), random.randint(1, 3))
        weights = [random.choice([1, 1, 3, 10]) for _ in kinds]
        lines = [LINES[kind](random) for kind in random.choices(kinds, weights, k=random.randint(1, 60))]
        yield random.choice(["\n", "\n", "\n\n"]).join(lines)


def library_texts(most_characters: int = 20_000) -> Iterator[str]:
    """Modules and text files of the standard library, and the docstrings of some."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [*sorted(folder.glob("*.py")), *sorted(folder.glob("*/*.txt")), folder / "pydoc_data" / "topics.py"]
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        yield text[:most_characters]
        yield from (piece for piece in text[:most_characters].split('"""')[1::2] if len(piece) > 300)
