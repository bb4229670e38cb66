"""A causal model in a folder of Hugging Face's form: its config and its weights, of which nothing is ever run.

Weights are read one by one, so that nobody has to hold more than one of them. Only safetensors are read: a pickle can
run code when it is opened, and so can a model that brings its own.
"""

import hashlib
import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel

from pipeline.errors import CheckpointError
from pipeline.models.weights import Shape, Weights, parameter_shapes, saved_buffers

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


def folder_weights(folder: str | Path, model: PreTrainedModel) -> Weights:
    """The weights of a folder for a model, by the model's names of its parameters and saved buffers.

    Args:
        folder: Where they lie.
        model: What they are of; it may be weightless.

    Raises:
        CheckpointError: A file is damaged, a weight is missing, or a tensor is nobody's; where a weight is read: it is
            of another shape, or not floating-point.
    """
    shapes = parameter_shapes(model) | {name: tuple(one.shape) for name, one in saved_buffers(model).items()}
    files = _Files(folder, model.base_model_prefix)
    ignored = (*_NEVER_WEIGHTS, *(model._keys_to_ignore_on_load_unexpected or ()))
    tied = (model.all_tied_weights_keys or {}).keys()
    if missing := [name for name in shapes if not files.parts(name)]:
        raise CheckpointError(f"model.path {folder} has no weight {missing[0]}; is it whole?")
    for name in sorted(files.keys - set().union(*map(files.parts, shapes)) - tied):
        if not any(re.search(pattern, name) for pattern in ignored):
            raise CheckpointError(f"model.path {folder}: no part of the model that {CONFIG_NAME} names has {name}")
    return Weights(shapes, lambda name: files.weight(name, shapes[name]).float())


class _Files:
    """Open safetensors, and under which names a model's weights lie in them."""

    def __init__(self, folder: str | Path, prefix: str) -> None:
        self._folder, self._prefix = folder, f"{prefix}."
        self._files: dict[str, Any] = {}
        for path in weight_files(folder):
            try:
                file = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"model.path {folder}: {path.name} is damaged ({error})") from error
            self._files |= dict.fromkeys(file.keys(), file)
        self.keys = self._files.keys()

    def parts(self, name: str) -> list[str]:
        """The tensors that a weight is made of; older files leave out the prefix that models put before their names."""
        return next((found for one in (name, name.removeprefix(self._prefix)) if (found := self._parts(one))), [])

    def _parts(self, name: str) -> list[str]:
        if name in self.keys:
            return [name]
        prefix, _, last = name.rpartition(".")
        if not prefix.endswith("experts") or last not in _STACKED:
            return []
        found = []
        for number in count():
            of_expert = [f"{prefix}.{number}.{part}.weight" for part in _STACKED[last]]
            if not all(part in self.keys for part in of_expert):
                return found
            found += of_expert
        return found

    def weight(self, name: str, shape: Shape) -> torch.Tensor:
        """One weight, whole."""
        parts = [self._files[part].get_tensor(part) for part in self.parts(name)]
        found = parts[0] if len(parts) == 1 else _stacked(parts, len(_STACKED[name.rpartition(".")[2]]))
        if tuple(found.shape) != shape or not found.is_floating_point():
            raise CheckpointError(
                f"model.path {self._folder}: weight {name} is {found.dtype} of shape {tuple(found.shape)}, and not"
                f" floating-point of shape {shape} as {CONFIG_NAME} says"
            )
        return found


def _stacked(parts: list[torch.Tensor], per_expert: int) -> torch.Tensor:
    return torch.stack([torch.cat(parts[first : first + per_expert]) for first in range(0, len(parts), per_expert)])


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
