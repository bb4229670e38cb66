"""The DeepSpeed dict, generated from our config: one truth for each number."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from pipeline.config.engine import Engine as EngineConfig
from pipeline.config.optimization import AdamW, Muon, Optimizer
from pipeline.config.optimization import Lion as LionConfig
from pipeline.config.run import RunConfig
from pipeline.data.loader import Share
from pipeline.engine.eight_bit import adam_class, adamw_8bit
from pipeline.engine.lion import Lion
from pipeline.engine.memory import BUCKET_ELEMENTS, GATHERED_ELEMENTS
from pipeline.engine.mesh import mesh_of
from pipeline.errors import ConfigError
from pipeline.models.fp8 import require_fp8


def deepspeed_dict(config: RunConfig, world_size: int) -> dict[str, Any]:
    """What `deepspeed.initialize` is given. Ranks that share rows are to DeepSpeed as if each had its own."""
    mesh = mesh_of(config.engine, 0, world_size)
    accumulation = Share(0, mesh.data_world_size, config.batch.micro_size).num_micro_batches(config.batch.global_size)
    settings: dict[str, Any] = {
        "train_batch_size": config.batch.micro_size * accumulation * world_size,
        "train_micro_batch_size_per_gpu": config.batch.micro_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.engine.gradient_clipping,
        **_named_optimizer(config.optimizer),
        "zero_optimization": _zero(config),
        "bf16": {"enabled": config.engine.precision == "bf16", "check_grad_overflow": True},
        "fp16": {"enabled": config.engine.precision == "fp16"},
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device, twice in each micro batch
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if mesh.tensor_size > 1:
        settings["tensor_parallel"] = {"autotp_size": mesh.tensor_size}
    if config.engine.zero_stage > 0:
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


def require_able(config: RunConfig, world_size: int, device: torch.device) -> None:
    """Raise ConfigError if the job's ranks or device cannot do what the engine is to, MissingDependencyError if a
    package that it needs is not there."""
    zeropp = config.engine.zeropp
    if config.engine.fp8:
        require_fp8(device)
    if isinstance(config.optimizer, AdamW) and config.optimizer.state_precision == "8bit":
        adam_class()
    _require_attention(config.engine, device)
    if world_size % zeropp.partition_size:
        raise ConfigError(
            f"engine.zeropp.partition_size ({zeropp.partition_size}) must divide the number of ranks ({world_size});"
            " give the number of GPUs of a node"
        )
    if zeropp.is_quantized and device.type != "cuda":
        raise ConfigError(
            "engine.zeropp quantizes by CUDA kernels and this device is a CPU; leave quantized_weights and"
            " quantized_gradients out"
        )


def _require_attention(engine: EngineConfig, device: torch.device) -> None:
    if engine.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "engine.attention (flash_attention_2) needs a GPU and the package flash-attn; take documents, which needs"
            " neither"
        )
    is_fast = engine.attention in ("documents", "flash_attention_2")
    if is_fast and engine.precision == "fp32" and device.type == "cuda":
        raise ConfigError(
            f"engine.attention ({engine.attention}) has no kernel for fp32 on a GPU; take sdpa, or precision bf16"
        )


def _zero(config: RunConfig) -> dict[str, Any]:
    stage = config.engine.zero_stage
    settings: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_scatter": not isinstance(config.optimizer, Muon),  # it loses gradients: docs/design/engine.md
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "allgather_bucket_size": BUCKET_ELEMENTS,
    }
    offload, zeropp = config.engine.offload, config.engine.zeropp
    if offload.optimizer != "none":
        settings["offload_optimizer"] = _place(offload.optimizer)
    if stage == 3:
        if offload.parameters != "none":
            settings["offload_param"] = _place(offload.parameters)
        settings |= {
            "stage3_prefetch_bucket_size": BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": GATHERED_ELEMENTS,
            "zero_hpz_partition_size": zeropp.partition_size,
            "zero_quantized_weights": zeropp.quantized_weights,
            "zero_quantized_gradients": zeropp.quantized_gradients,
        }
    return settings


def _place(where: str) -> dict[str, Any]:
    """To DeepSpeed files are host memory: they are mapped into it (`pipeline.engine.files`)."""
    return {"device": "cpu", "pin_memory": where == "cpu" and torch.cuda.is_available()}


def own_optimizer(optimizer: Optimizer) -> Callable[..., torch.optim.Optimizer] | None:
    """What makes, of parameter groups, an optimizer that DeepSpeed has not; None for those that its dict names."""
    if isinstance(optimizer, LionConfig):
        return partial(Lion, lr=optimizer.lr, betas=optimizer.betas, weight_decay=optimizer.weight_decay)
    if isinstance(optimizer, AdamW) and optimizer.state_precision == "8bit":
        return partial(
            adamw_8bit,
            lr=optimizer.lr, betas=optimizer.betas, eps=optimizer.eps, weight_decay=optimizer.weight_decay,
        )  # fmt: skip
    return None


def _named_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    if isinstance(optimizer, LionConfig) or own_optimizer(optimizer):
        return {}
    return {"optimizer": _settings_of(optimizer)}


def _settings_of(optimizer: AdamW | Muon) -> dict[str, Any]:
    common = {"betas": list(optimizer.betas), "eps": optimizer.eps, "weight_decay": optimizer.weight_decay}
    if isinstance(optimizer, AdamW):
        return {"type": "AdamW", "params": {"lr": optimizer.lr, **common, "torch_adam": True, "fused": True}}
    return {
        "type": "Muon",
        "params": {
            "muon_lr": optimizer.lr,
            "adam_lr": optimizer.adam_lr,
            "momentum": optimizer.momentum,
            "ns_method": optimizer.newton_schulz,
            **common,
            "torch_adam": True,
        },
    }


def peak_learning_rate(group: dict[str, Any], optimizer: Optimizer) -> float:
    """Peak learning rate of one of the optimizer's parameter groups."""
    if isinstance(optimizer, Muon):
        return optimizer.lr if group["use_muon"] else optimizer.adam_lr
    return optimizer.lr * float(group["rate_share"])
