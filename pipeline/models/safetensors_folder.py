"""A causal model in a folder of Hugging Face's form: its config and its weights, of which nothing is ever run.

Weights are read one by one, so that nobody has to hold more than one of them. Only safetensors are read: a pickle can
run code when it is opened, and so can a model that brings its own.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel

from pipeline.errors import CheckpointError

CONFIG_NAME = "config.json"
INDEX_NAME = "model.safetensors.index.json"

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_STACKED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
"""What of each expert, end to end, transformers keeps in one tensor for all of them; files have it expert by expert."""
_NEVER_WEIGHTS = (r"rotary_emb\.inv_freq$",)
"""Buffers that older files hold, too."""


def read_form(folder: str | Path) -> PretrainedConfig:
    """transformers' config of the model in a folder.

    Raises:
        CheckpointError: There is none, or it is of no causal model that transformers knows, or of a quantised one.
    """
    values = _read_json(Path(folder) / CONFIG_NAME)
    kind = values.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise CheckpointError(
            f"model.path {folder}: transformers does not know model_type {kind!r}, and no code of a folder is run;"
            " choose another model"
        )
    if "quantization_config" in values:
        raise CheckpointError(
            f"model.path {folder} holds quantised weights, which cannot be trained; give the original"
        )
    config = CONFIG_MAPPING[kind](**{key: value for key, value in values.items() if key != "auto_map"})
    _require_causal(folder, config)
    config.use_cache = False
    return config


def weight_files(folder: str | Path) -> list[Path]:
    """A folder's safetensors, by name. Raises CheckpointError if there are none, or one is missing."""
    path = Path(folder)
    if (path / INDEX_NAME).is_file():
        found = [path / name for name in sorted(set(_read_json(path / INDEX_NAME)["weight_map"].values()))]
    else:
        found = sorted(path.glob("*.safetensors"))
    for file in found:
        if not file.is_file():
            raise CheckpointError(f"model.path {folder} lacks {file.name}, which its index names; download it again")
    if not found:
        pickles = [file.name for kind in _PICKLES for file in sorted(path.glob(kind))]
        cure = f"; {pickles[0]} is a pickle, which can run code, and is not read: convert it" if pickles else ""
        raise CheckpointError(f"model.path {folder} holds no *.safetensors{cure}")
    return found


def folder_digest(folder: str | Path) -> str:
    """sha256 over a folder's config and weights. Raises CheckpointError if one cannot be read."""
    digest = hashlib.sha256()
    for path in (Path(folder) / CONFIG_NAME, *weight_files(folder)):
        try:
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise CheckpointError(f"model.path {folder}: {path.name} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def read_weights(folder: str | Path, model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter and saved buffer of a model, by its name, on the CPU in the files' type; one at a time.

    Args:
        folder: Where they lie.
        model: What they are of; it may be weightless.

    Raises:
        CheckpointError: One is missing, of another shape, not floating-point, or nobody's; or a file is damaged.
    """
    with ExitStack() as stack:
        files = _Files(folder, stack)
        for name, shape in _wanted(model):
            yield name, files.weight(name, shape, model.base_model_prefix)
        ignored = (*_NEVER_WEIGHTS, *(model._keys_to_ignore_on_load_unexpected or ()))
        tied = (model.all_tied_weights_keys or {}).keys()
        for name in sorted(files.left - tied):
            if not any(re.search(pattern, name) for pattern in ignored):
                raise CheckpointError(f"model.path {folder}: no part of the model that {CONFIG_NAME} names has {name}")


def _wanted(model: PreTrainedModel) -> Iterator[tuple[str, torch.Size]]:
    saved = model.state_dict().keys()
    yield from ((name, getattr(one, "ds_shape", one.shape)) for name, one in model.named_parameters())
    yield from ((name, one.shape) for name, one in model.named_buffers() if name in saved)


class _Files:
    """Open safetensors, and which of their tensors nobody has asked for."""

    def __init__(self, folder: str | Path, stack: ExitStack) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        for path in weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"model.path {folder}: {path.name} is damaged ({error})") from error
            self._files |= dict.fromkeys(file.keys(), file)
        self.left = set(self._files)

    def weight(self, name: str, shape: torch.Size, prefix: str) -> torch.Tensor:
        """One weight; older files leave out the prefix that the model puts before all but its output."""
        found = self._find(name)
        found = self._find(name.removeprefix(f"{prefix}.")) if found is None else found
        if found is None:
            raise CheckpointError(f"model.path {self._folder} has no weight {name}; is it whole?")
        if found.shape != shape or not found.is_floating_point():
            raise CheckpointError(
                f"model.path {self._folder}: weight {name} is {found.dtype} of shape {tuple(found.shape)}, and not"
                f" floating-point of shape {tuple(shape)} as {CONFIG_NAME} says"
            )
        return found

    def _find(self, name: str) -> torch.Tensor | None:
        if name in self._files:
            self.left.discard(name)
            return self._files[name].get_tensor(name)
        prefix, _, last = name.rpartition(".")
        if prefix.endswith("experts") and last in _STACKED:
            return self._stacked(prefix, _STACKED[last])
        return None

    def _stacked(self, prefix: str, parts: tuple[str, ...]) -> torch.Tensor | None:
        experts = []
        while f"{prefix}.{len(experts)}.{parts[0]}.weight" in self._files:
            found = [self._find(f"{prefix}.{len(experts)}.{part}.weight") for part in parts]
            experts.append(torch.cat([one for one in found if one is not None]))
        return torch.stack(experts) if experts else None


def _require_causal(folder: str | Path, config: PretrainedConfig) -> None:
    known = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    names = config.architectures or ([known.__name__] if known else ["model of another kind"])
    if known is None or known.__name__ not in names:
        raise CheckpointError(f"model.path {folder} is a {names[0]}, which is no causal language model; choose another")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"model.path {path.parent}: {path.name} cannot be read: {reason}") from error
    return values
