"""Names of files and folders."""

from typing import Annotated

from pydantic import AfterValidator

from pipeline.config.places import without_user


def _is_a_name(path: str) -> str:
    if "\0" in path:
        raise ValueError(f"{path!r} holds a NUL character, which no file's name can; take it out")
    return path


FilePath = Annotated[str, AfterValidator(_is_a_name), AfterValidator(without_user)]
"""A path, glob or URL, as the user wrote it."""
