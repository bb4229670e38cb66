"""What is done to each document's text, and what drops it. Defaults are those of the papers."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pipeline.config.base import Config
from pipeline.config.prep.paths import FilePath

Share = Annotated[float, Field(ge=0, le=1)]


class Cleaning(Config):
    """What is done to every document before it is counted."""

    repair: bool = False
    """Mend text that was decoded wrongly (mojibake) with ftfy."""
    normalization: Literal["none", "NFC", "NFKC"] = "NFC"
    """Unicode form; normalisation happens here, never in the tokenizer."""
    min_characters: NonNegativeInt = 64
    """Shorter documents are dropped."""
    max_replacement_share: Share = 0.01
    """Documents with a larger share of undecodable characters are dropped."""


class GopherQuality(Config):
    """The quality rules of Gopher (Rae et al. 2021, arXiv:2112.11446, A1.1)."""

    type: Literal["gopher_quality"]
    """The filter."""
    min_words: NonNegativeInt = 50
    """Fewest words."""
    max_words: PositiveInt = 100_000
    """Most words."""
    min_mean_word_length: NonNegativeFloat = 3.0
    """Shortest mean word, in characters."""
    max_mean_word_length: NonNegativeFloat = 10.0
    """Longest mean word, in characters."""
    max_symbol_word_ratio: NonNegativeFloat = 0.1
    """Most `#` or ellipses per word."""
    max_bullet_line_share: Share = 0.9
    """Most lines that begin with a bullet."""
    max_ellipsis_line_share: Share = 0.3
    """Most lines that end with an ellipsis."""
    min_alphabetic_word_share: Share = 0.8
    """Fewest words with a letter in them."""
    min_stop_words: NonNegativeInt = 2
    """Fewest of `stop_words`."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """Words that text in the language holds."""


class GopherRepetition(Config):
    """The repetition rules of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1)."""

    type: Literal["gopher_repetition"]
    """The filter."""
    max_duplicate_line_share: Share = 0.3
    """Of the lines, those seen before."""
    max_duplicate_paragraph_share: Share = 0.3
    """Of the paragraphs, those seen before."""
    max_duplicate_line_character_share: Share = 0.2
    """Of the characters, those in lines seen before."""
    max_duplicate_paragraph_character_share: Share = 0.2
    """Of the characters, those in paragraphs seen before."""
    top_ngrams: tuple[tuple[PositiveInt, Share], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    """(n, most of the characters that the commonest n-gram of words may make up)."""
    duplicate_ngrams: tuple[tuple[PositiveInt, Share], ...] = (
        (5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10),
    )  # fmt: skip
    """(n, most of the characters that may be in n-grams of words seen before)."""


class C4Quality(Config):
    """The rules of C4 (Raffel et al. 2020, arXiv:1910.10683, 2.2): bad lines go, then bad documents."""

    type: Literal["c4_quality"]
    """The filter."""
    require_terminal_punctuation: bool = True
    """Lines that do not end like a sentence go."""
    min_words_per_line: NonNegativeInt = 3
    """Lines of fewer words go."""
    max_word_length: PositiveInt = 1000
    """Lines with a longer word go."""
    min_sentences: NonNegativeInt = 5
    """Documents of fewer sentences are dropped."""
    drop_javascript_lines: bool = True
    """Lines that mention javascript go."""
    drop_policy_lines: bool = True
    """Lines of cookie and privacy notices go."""
    drop_lorem_ipsum: bool = True
    """Documents with `lorem ipsum` are dropped."""
    drop_curly_brackets: bool = True
    """Documents with `{` are dropped."""
    remove_citations: bool = True
    """Wikipedia's `[1]` and `[citation needed]` go."""


class FineWebQuality(Config):
    """The rules that FineWeb adds (Penedo et al. 2024, arXiv:2406.17557, 3.6)."""

    type: Literal["fineweb_quality"]
    """The filter."""
    min_punctuated_line_share: Share = 0.12
    """Fewest lines that end with punctuation."""
    short_line_length: PositiveInt = 30
    """Lines of at most so many characters are short."""
    max_short_line_share: Share = 0.67
    """Most short lines."""
    max_duplicate_line_character_share: Share = 0.01
    """Of the characters, those in lines seen before."""
    max_newline_word_ratio: NonNegativeFloat = 0.3
    """Most line feeds per word."""


class UrlFilter(Config):
    """Drops documents by their `url`: whole domains, single addresses, words in the address."""

    type: Literal["url"]
    """The filter."""
    domains: tuple[str, ...] = ()
    """Domains, their subdomains included."""
    domain_files: tuple[FilePath, ...] = ()
    """Files with a domain on each line."""
    url_files: tuple[FilePath, ...] = ()
    """Files with an address on each line."""
    words: tuple[str, ...] = ()
    """Words that may not be in an address."""


class LanguageFilter(Config):
    """Keeps documents in some languages; the language found becomes metadata `language`."""

    type: Literal["language"]
    """The filter."""
    keep: tuple[str, ...] = Field(min_length=1)
    """Codes of languages, such as `en`."""
    detector: Literal["resiliparse", "fasttext"] = "resiliparse"
    """resiliparse is built in and fast; fastText is finer and needs a model file."""
    model: FilePath | None = None
    """Path of a fastText model, such as lid.176.bin."""
    model_sha256: str | None = None
    """Checksum of that file; a file that differs is not loaded."""
    min_score: float = 0.0
    """fastText's confidence, 0 to 1, or for resiliparse the largest distance (0: no limit), about 200 to 1,200."""


class PersonalData(Config):
    """Replaces e-mail addresses, public IP addresses and telephone numbers."""

    type: Literal["personal_data"]
    """The filter."""
    kinds: tuple[Literal["email", "ip", "phone"], ...] = ("email", "ip", "phone")
    """What is replaced."""
    email: str = "email@example.com"
    """In place of an e-mail address."""
    ip: str = "192.0.2.1"
    """In place of an IP address (a documentation address, RFC 5737)."""
    phone: str = "555-0100"
    """In place of a telephone number."""


class CustomFilter(Config):
    """A function of yours: `(text, metadata, **options) -> str | None`; None or an empty text drops the document."""

    type: Literal["custom"]
    """The filter."""
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:function`; the module is imported from the working folder or the environment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the function by name."""


class Decontaminate(Config):
    """Drops documents that share an n-gram of words with evaluation data (Brown et al. 2020, arXiv:2005.14165, C)."""

    type: Literal["decontaminate"]
    """The filter."""
    paths: tuple[FilePath, ...] = Field(min_length=1)
    """Evaluation files: .jsonl and .json, of which every text is taken, or text files; or globs."""
    ngram: Annotated[int, Field(ge=1, le=100)] = 13
    """Words in an n-gram. Evaluation texts that are shorter count whole, if they have at least `min_words`."""
    min_words: PositiveInt = 8
    """Evaluation texts of fewer words are not looked for."""


Filter = Annotated[
    GopherQuality
    | GopherRepetition
    | C4Quality
    | FineWebQuality
    | UrlFilter
    | LanguageFilter
    | PersonalData
    | CustomFilter
    | Decontaminate,
    Field(discriminator="type"),
]
