"""One sentence about what pydantic found wrong: the key as the user wrote it, the value, the cure."""

import difflib
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
"""Of names that become folders."""
TIME_PATTERN = r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$"
"""As SLURM takes it."""
PLACE_PATTERN = r"^.+:\d+$"
_PATTERNS = {
    NAME_PATTERN: "lower-case letters, digits, _ and -, beginning with a letter or digit",
    TIME_PATTERN: "[days-]hours:minutes:seconds, such as 1-12:00:00",
    PLACE_PATTERN: "HOST:PORT",
}
"""In words."""


def sentence(kind: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with a config of some kind; an unknown key comes first, it may be why another is missing."""
    found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = found[0]
    key, parent = _resolve(kind, first["loc"])
    same = [one for one in found if one["type"] == "extra_forbidden" or _resolve(kind, one["loc"])[0] == key]
    return _sentence(key, parent, first, same)


def _sentence(key: str, parent: Any, first: ErrorDetails, same: Sequence[ErrorDetails]) -> str:
    value = first["input"]
    match first["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(first["loc"][-1]), _fields(parent), n=1)
            return f"unknown key {key}" + (f"; did you mean {close[0]}?" if close else "; remove it")
        case "missing":
            return f"{key} is missing; add it"
        case "union_tag_invalid":
            return f"{key}.type is {first['ctx']['tag']!r}; it must be one of {first['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return f"{key}.type is missing; a block with several forms must name its type"
        case "value_error":
            return f"{key + ': ' if key else ''}{first['ctx']['error']}"
        case "too_short":
            return f"{key} is empty; give at least {first['ctx']['min_length']}"
    shown = repr(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return f"{key} is {shown}; {', or '.join(dict.fromkeys(_wish(one) for one in same))}"


def _wish(error: ErrorDetails) -> str:
    match error["type"]:
        case "tuple_type" | "list_type":
            return "it must be a list, such as [a, b]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "it must be a block of keys"
        case "string_pattern_mismatch" if error["ctx"]["pattern"] in _PATTERNS:
            return f"it must be {_PATTERNS[error['ctx']['pattern']]}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}"


def _resolve(kind: Any, location: Sequence[int | str]) -> tuple[str, Any]:
    """The key at an error's location, without the labels pydantic puts in for the forms of a union, and its owner."""
    parts: list[str] = []
    parent: Any = kind
    for part in location:
        kind = _plain(kind)
        if get_origin(kind) in (Union, types.UnionType):
            kind = next((form for form in get_args(kind) if part in _tags(form)), None)
            continue
        parts.append(str(part))
        parent, kind = kind, _inside(kind, part)
    return ".".join(parts), parent


def _plain(kind: Any) -> Any:
    """A type without its annotations and without None."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    forms = [form for form in get_args(kind) if form is not types.NoneType]
    return _plain(forms[0]) if get_origin(kind) in (Union, types.UnionType) and len(forms) == 1 else kind


def _inside(kind: Any, part: int | str) -> Any:
    """The type of one field, value or item of a type; None if it has none such."""
    if part in _fields(kind):
        return kind.model_fields[part].annotation
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(part, int):
        return arguments[0] if arguments[-1] is Ellipsis else arguments[part]
    return arguments[-1] if arguments else None


def _fields(kind: Any) -> list[str]:
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _tags(kind: Any) -> tuple[Any, ...]:
    return get_args(kind.model_fields["type"].annotation) if "type" in _fields(kind) else ()
