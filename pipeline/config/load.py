"""From a YAML file and `key=value` words to a validated config; the only part of `config` that opens files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.config.base import Config
from pipeline.config.sentences import sentence
from pipeline.errors import ConfigError

ConfigType = TypeVar("ConfigType", bound=Config)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that `1e-3` is a number, `24:00:00` is none, and no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise ConfigError(f"line {node.value[index][0].start_mark.line + 1}: key {key!r} is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_TEXT = re.compile(r"^(?:[0-9]+(?::[0-9]+)+|on|On|ON|off|Off|OFF|yes|Yes|YES|no|No|NO)$")
"""Text as in YAML 1.2: 24:00:00 is a time limit, not a number to the base of 60, and `off` a word."""
_Loader.yaml_implicit_resolvers = {
    first: [("tag:yaml.org,2002:str", _TEXT), *resolvers]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a piece of YAML. Raises ConfigError naming `origin` if it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not valid YAML: {_problem(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{origin}, {error}") from error


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where: the name that PyYAML gives to a string says nothing."""
    return " ".join(str(error).replace('in "<unicode string>", ', "in ").split())


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError if the file is missing or holds anything else."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"config {path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path} is not UTF-8 text; give the path of a YAML file") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise ConfigError(f"config {path} must hold a mapping of keys to values, found {found}")
    return value


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `section.key=value` put in; values are read as YAML. List items go by index."""
    result: dict[str, Any] = _copy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"{override!r} is not of the form section.key=value")
        is_range = re.fullmatch(r"\s*(\[[^\[\]()]*\)[\s,]*)+", text)  # [a,b) is no YAML
        _put(result, key.split("."), text if is_range else parse_yaml(text, override), override)
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _put(values: Any, path: Sequence[str], value: Any, override: str) -> None:
    for part in path[:-1]:
        values = _step_into(values, part, override)
    if isinstance(values, list):
        values[_index(values, path[-1], override)] = value
    else:
        values[path[-1]] = value


def _step_into(values: Any, part: str, override: str) -> Any:
    if isinstance(values, list):
        return values[_index(values, part, override)]
    inner = values.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"{override!r}: {part} is {inner!r}, which has no keys of its own")
    return inner


def _index(values: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(values):
        raise ConfigError(f"{override!r}: {part!r} is not an index below {len(values)}")
    return int(part)


def validate(kind: type[ConfigType], values: Mapping[str, Any], origin: str) -> ConfigType:
    """`values` as a `kind`. Raises ConfigError with one sentence about the first thing that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {sentence(kind, error)}") from error


def load(kind: type[ConfigType], path: str | Path, overrides: Sequence[str] = ()) -> ConfigType:
    """The config in a YAML file with overrides applied. Raises ConfigError."""
    return validate(kind, apply_overrides(read_mapping(path), overrides), str(path))


def dump(config: Config) -> str:
    """A config as YAML text, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
