"""What a run reads and makes, for W&B: references with checksums of ours. No byte of it is uploaded."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from pipeline.corpus.remote.urls import is_url, join, local_path, shown
from pipeline.engine.checkpoint.commit import COMMIT_NAME, Commit, read_commit, step_name
from pipeline.errors import CheckpointError

_MOST_CHARACTERS = 100
"""Of a name; W&B takes 128."""


def checkpoint(run: Path, run_id: str, step: int, branch: int | None = None) -> wandb.Artifact | None:
    """The checkpoint of a step as it lies in the run folder; None if it is not there, or of another branch."""
    place = run / "checkpoints" / step_name(step)
    try:
        found = read_commit(place)
    except CheckpointError:
        return None
    if branch is not None and found.branch != branch:
        return None
    return _of_commit(f"checkpoint-{run_id}", found, place.resolve().as_uri(), place / COMMIT_NAME)


def copy_of_checkpoint(run: Path, run_id: str, step: int, url: str) -> wandb.Artifact | None:
    """The same as it lies at a URL."""
    place = run / "checkpoints" / step_name(step)
    try:
        found = read_commit(place)
    except CheckpointError:
        return None
    return _of_commit(f"checkpoint-copy-{run_id}", found, shown(join(url, step_name(step))), place / COMMIT_NAME)


def corpora(config: Mapping[str, Any], phase: Mapping[str, Any]) -> Iterator[wandb.Artifact]:
    """The manifests of the corpora of a run's config, each once.

    Args:
        config: The run's.
        phase: A phase of its data as the journal tells it: checksums of what it reads of each source.
    """
    sources = {one["name"]: one["fingerprint"] for one in phase["setting"]["sources"]}
    for place in dict.fromkeys(_places(config)):
        try:
            url, digest = _manifest(place)
        except OSError:  # moved since the run began
            continue
        metadata = {"place": shown(place), "sources": sources, "manifest_sha256": digest}
        artifact = wandb.Artifact(f"corpus-{_cleaned(shown(place))}", type="corpus", metadata=metadata)
        _add(artifact, "manifest.json", url, digest or hashlib.sha256(str(sources).encode()).hexdigest())
        yield artifact


def _manifest(place: str) -> tuple[str, str | None]:
    """Where a corpus's manifest is, and its sha256 where that needs no network."""
    if is_url(place):
        return shown(join(place, "manifest.json")), None
    path = Path(local_path(place), "manifest.json").resolve()
    return path.as_uri(), _sha256(path)


def _places(config: Mapping[str, Any]) -> Iterator[str]:
    """Corpora in the order of the config."""
    data = config["data"]
    for one in (data, *data.get("phases", ())):
        yield from (source["corpus"] for source in one.get("sources") or ())
    yield from (one["corpus"] for one in config["evaluation"]["corpora"].values())


def _of_commit(name: str, commit: Commit, url: str, commit_path: Path) -> wandb.Artifact:
    digest = _sha256(commit_path)
    metadata = {"step": commit.step, "branch": commit.branch, "world_size": commit.world_size, "bytes": commit.bytes,
                "commit_sha256": digest, **commit.made_by}  # fmt: skip
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    _add(artifact, COMMIT_NAME, f"{url}/{COMMIT_NAME}", digest)
    for file in commit.files:
        _add(artifact, file.name, f"{url}/{file.name}", file.sha256, file.bytes)
    return artifact


def _add(artifact: wandb.Artifact, name: str, url: str, digest: str, num_bytes: int | None = None) -> None:
    """What `Artifact.add_reference(checksum=False)` does, which has no place for a checksum of ours, and for `s3://`
    wants boto3. With it W&B sees that another checkpoint of the same step is another.
    """
    artifact.manifest.add_entry(ArtifactManifestEntry(path=name, ref=url, digest=digest, size=num_bytes))


def _cleaned(place: str) -> str:
    return re.sub(r"[^\w.]+", "-", place, flags=re.ASCII)[-_MOST_CHARACTERS:].strip("-")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
