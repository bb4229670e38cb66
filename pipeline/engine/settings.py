"""The DeepSpeed dict, generated from our config: one truth for each number."""

from typing import Any

import torch

from pipeline.config.optimization import AdamW, Muon
from pipeline.config.run import RunConfig
from pipeline.data.loader import Share
from pipeline.engine.mesh import mesh_of


def deepspeed_dict(config: RunConfig, world_size: int) -> dict[str, Any]:
    """What `deepspeed.initialize` is given. Ranks that share rows are to DeepSpeed as if each had its own."""
    mesh = mesh_of(config.engine, 0, world_size)
    accumulation = Share(0, mesh.data_world_size, config.batch.micro_size).num_micro_batches(config.batch.global_size)
    settings: dict[str, Any] = {
        "train_batch_size": config.batch.micro_size * accumulation * world_size,
        "train_micro_batch_size_per_gpu": config.batch.micro_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.engine.gradient_clipping,
        "optimizer": _optimizer(config.optimizer),
        "zero_optimization": _zero(config),
        "bf16": {"enabled": config.engine.precision == "bf16", "check_grad_overflow": True},
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
    }
    if mesh.tensor_size > 1:
        settings["tensor_parallel"] = {"autotp_size": mesh.tensor_size}
    if config.engine.zero_stage > 0:
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


def _zero(config: RunConfig) -> dict[str, Any]:
    stage = config.engine.zero_stage
    settings: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": False,
        "contiguous_gradients": True,
        "reduce_scatter": not isinstance(config.optimizer, Muon),  # it loses gradients: docs/design/engine.md
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
    }
    if config.engine.offload_optimizer:
        settings["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if stage == 3:
        settings |= {
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
        }
    return settings


def _optimizer(optimizer: AdamW | Muon) -> dict[str, Any]:
    common = {"betas": list(optimizer.betas), "eps": optimizer.eps, "weight_decay": optimizer.weight_decay}
    if isinstance(optimizer, AdamW):
        return {"type": "AdamW", "params": {"lr": optimizer.lr, **common, "torch_adam": True}}
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


def peak_learning_rate(group: dict[str, Any], optimizer: AdamW | Muon) -> float:
    """Peak learning rate of one of the optimizer's parameter groups."""
    if isinstance(optimizer, Muon) and not group["use_muon"]:
        return optimizer.adam_lr
    return optimizer.lr
