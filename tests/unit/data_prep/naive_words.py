"""Words by a second way: character by character."""

import unicodedata

from hypothesis import strategies as st

WHOLE_WORDS = "狐狸カกໄကក\U00020000\U0002f800"
"""Characters that are words by themselves."""
mixed_text = st.text(
    st.sampled_from("aAbÀàß9_ .,'\n\0-аĀ\u0301İ한𝕏😀。\ud800" + WHOLE_WORDS) | st.characters(max_codepoint=0xDFF),
    max_size=60,
)


def naive_words(text: str) -> list[str]:
    words, inside = [], False
    for character in text:
        alone = character in WHOLE_WORDS
        is_word = alone or unicodedata.category(character)[0] in "LMN"
        if is_word and inside and not alone:
            words[-1] += character.lower()[0]
        elif is_word:
            words.append(character.lower()[0])
        inside = is_word and not alone
    return words
