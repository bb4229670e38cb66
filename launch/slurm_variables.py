"""Environment variables of a SLURM job's tasks that are not for the whole job, or not for all jobs."""

import shlex
from collections.abc import Mapping, Sequence

from pipeline.config.cluster import SlurmCluster

_OPERATORS = (
    'TORCH_EXTENSIONS_DIR="${TORCH_EXTENSIONS_DIR:-'
    '${XDG_CACHE_HOME:-$HOME/.cache}/tarmac/torch_extensions/$(hostname)}"'
)
_CACHES = {
    "TORCH_EXTENSIONS_DIR": "/torch_extensions",
    "TORCHINDUCTOR_CACHE_DIR": "/torchinductor",
    "TRITON_CACHE_DIR": "/triton",
    "TMPDIR": "",
}
"""What goes below `cache_dir`; shards of corpora at URLs are kept below TMPDIR."""


def caches(cluster: SlurmCluster) -> str:
    """Shell words that each task exports; the folder's name may hold variables of the node."""
    if cluster.cache_dir is None:
        return _OPERATORS
    return " ".join(f'{name}="{cluster.cache_dir}{inside}"' for name, inside in _CACHES.items())


def flight_recorder(cluster: SlurmCluster) -> Mapping[str, str]:
    """What makes torch remember collectives, and write them down when one times out."""
    if not cluster.flight_recorder:
        return {}
    return {"TORCH_FR_BUFFER_SIZE": str(cluster.flight_recorder), "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}


def dump_file(cluster: SlurmCluster) -> Sequence[str]:
    """The shell line that says where; torch adds the rank to the name."""
    if not cluster.flight_recorder:
        return ()
    folder = shlex.quote(cluster.log_dir)
    return (f'export TORCH_FR_DUMP_TEMP_FILE={folder}/"$SLURM_JOB_NAME-$SLURM_JOB_ID-collectives-"',)
