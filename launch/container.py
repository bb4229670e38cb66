"""A container around each task of a SLURM job, as words of a batch script that runs in the working folder."""

import os
import shlex
from collections.abc import Mapping, Sequence

from pipeline.config.cluster import Container
from pipeline.errors import ConfigError

_HERE = '"$PWD:$PWD"'


def srun_options(container: Container | None, variables: Sequence[str]) -> str:
    """The lines of srun's options for pyxis; nothing for others.

    Args:
        container: The container, if there is one.
        variables: Names of environment variables that count, whatever the image says of them.

    Raises:
        ConfigError: A mount is none.
    """
    if container is None or container.runtime != "pyxis":
        return ""
    words = [
        f"--container-image={shlex.quote(container.image)}",
        f"--container-mounts={','.join([_HERE, *map(shlex.quote, _mounts(container))])}",
        '--container-workdir="$PWD"',
        f"--container-env={','.join(sorted(variables))}",
        *map(shlex.quote, container.options),
    ]
    return "".join(f"    {word} \\\n" for word in words)


def wrapped(container: Container | None, command: Sequence[str], has_gpus: bool) -> str:
    """A command, inside of apptainer if that is asked for. Raises ConfigError if a mount is none."""
    if container is None or container.runtime != "apptainer":
        return shlex.join(command)
    binds = " ".join(["--bind", _HERE, *(f"--bind {shlex.quote(mount)}" for mount in _mounts(container))])
    options = " ".join([*(["--nv"] if has_gpus else []), binds, '--pwd "$PWD"', *map(shlex.quote, container.options)])
    return f"apptainer exec {options} {shlex.quote(container.image)} \\\n  {shlex.join(command)}"


def check_seen(container: Container | None, places: Mapping[str, str]) -> None:
    """Raise ConfigError if a place, by the key that names it, is in no mount: it would be written into the container.

    The working folder is this process's, in which SLURM starts the job.
    """
    if container is None:
        return
    seen = [os.getcwd(), *(mount.split(":")[1] for mount in _mounts(container))]
    for key, place in places.items():
        path = f"{os.path.abspath(place)}/"
        if not any(path.startswith(f"{folder.rstrip('/')}/") for folder in seen):
            raise ConfigError(
                f"{key} ({place}) is neither in the working folder nor in one of cluster.container.mounts; add one"
                " that it is in, or it is gone with the container"
            )


def _mounts(container: Container) -> Sequence[str]:
    for mount in container.mounts:
        if len(mount.split(":")) not in (2, 3) or not all(mount.split(":")) or "," in mount:
            raise ConfigError(f"cluster.container.mounts has {mount!r}; give FROM:TO or FROM:TO:ro, without commas")
    return container.mounts
