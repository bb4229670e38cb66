"""Where a corpus goes, and where the finished tasks that it is made from lie."""

import os
from pathlib import Path

from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError


def output_path(config: PrepConfig) -> Path:
    """The corpus folder, absolute. Raises ConfigError if `output` is a URL, or has no name as the root has none."""
    output = _folder("output", config.output)
    if not output.name:
        raise ConfigError(f"output ({config.output}) is the root folder; give a folder in it")
    return output


def work_path(config: PrepConfig) -> Path:
    """The folder of finished tasks, absolute; `<output>.work` if none is given.

    Raises:
        ConfigError: `work` is a URL, or it and the output lie one in the other: what is replaced would be deleted with
            all that is in it.
    """
    output = output_path(config)
    work = _folder("work", config.work) if config.work else beside(output, "work")
    if _is_in(work, output) or _is_in(output, work):
        raise ConfigError(
            f"work ({config.work}) and output ({config.output}) must not lie one in the other; set work to a folder"
            f" beside it, such as {beside(output, 'work')}"
        )
    if any(_is_in(work, beside(output, ending)) for ending in ("partial", "replaced")):
        raise ConfigError(
            f"work ({config.work}) is where the corpus is put together; set it to {beside(output, 'work')}"
        )
    return work


def beside(output: Path, ending: str) -> Path:
    """The folder called like a corpus, with an ending."""
    return output.with_name(f"{output.name}.{ending}")


def _folder(field: str, value: str) -> Path:
    if "://" in value:
        raise ConfigError(f"{field} ({value}) must be a folder on a file system, not a URL; mount it, or copy it later")
    return Path(os.path.abspath(value))  # no slash at the end, no `..`: neither could be given an ending


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
