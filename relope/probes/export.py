"""A ReLope router as a standard PEFT adapter folder, which other tools load onto the backbone."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from relope.errors import InvalidInputError
from relope.probes.bottleneck import Learned
from relope.probes.heads import to_numpy
from relope.provenance import versions, write_bytes, write_json


def write_peft(learned: Learned, settings: Any, shape: dict[str, Any], folder: Path) -> int:
    """Write adapter, head and their settings; return how many adapter tensors there are.

    ``adapter_model.safetensors`` and ``adapter_config.json`` are what ``peft.PeftModel`` loads;
    ``head.safetensors`` and ``head.json`` hold the bottleneck that reads the adapted block. The
    adapter is a sidecar: load it to score prompts, never to answer.

    Args:
        learned: the fitted parts.
        settings: the method's settings.
        shape: what the router knows of the backbone: ``module``, ``layer``, ``base``.
        folder: where to.

    Raises:
        InvalidInputError: the router was fitted without LoRA.
    """
    adapters = learned.named_adapters()
    if not adapters:
        raise InvalidInputError("this router was fitted with lora=false: it has no adapter")
    tensors = {}
    for name, adapter in adapters.items():
        key = f"base_model.model.{shape['module']}.{name}"
        for side, weight in (("lora_A", adapter.down), ("lora_B", adapter.up)):
            tensors[f"{key}.{side}.weight"] = weight.detach().cpu().numpy()
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": shape["base"]["source"],
        "revision": shape["base"]["revision"] or None,
        "r": settings.lora_rank,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.lora_dropout,
        "target_modules": sorted(f"{shape['module']}.{name}" for name in adapters),
        "bias": "none",
        "inference_mode": True,
    }
    head = to_numpy(learned.bottleneck)
    about = {
        "layer": shape["layer"],
        "reads": f"output of {shape['module']} at the last prompt token, with the adapter",
        "score": "sigmoid(head(mean((h - standardize.mean) * standardize.scale)))",
        "versions": versions(),
    }
    write_bytes(folder / "adapter_model.safetensors", save(tensors, {"format": "pt"}))
    write_json(folder / "adapter_config.json", config)
    write_bytes(folder / "head.safetensors", save({name: np.ascontiguousarray(value) for name, value in head.items()}))
    write_json(folder / "head.json", about)
    return len(tensors)
