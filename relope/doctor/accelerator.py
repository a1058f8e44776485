"""torch and what it computes on."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from relope.doctor.finding import Finding

_GIB = 1 << 30
_AMPERE = (8, 0)
"""Compute capability from which bfloat16 and flash-attention run.

Source: https://github.com/Dao-AILab/flash-attention, "NVIDIA CUDA Support".
"""


def compute() -> Iterator[Finding]:
    """Yield torch, its devices, and what of bf16, flash-attention and bitsandbytes is there."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 (a broken installation raises whatever its libraries do)
        yield Finding(
            "torch", "error", f"cannot be imported: {str(error)[:200] or type(error).__name__}", "pip install torch"
        )
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Finding("torch", "ok", f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")
    yield _cuda(torch)
    if torch.cuda.is_available():
        yield from _on_gpu(torch.cuda.get_device_capability(0), torch.cuda.is_bf16_supported())
    yield _bitsandbytes(torch.cuda.is_available())


def _cuda(torch: Any) -> Finding:
    if torch.cuda.is_available():
        free, whole = torch.cuda.mem_get_info(0)
        name, n = torch.cuda.get_device_name(0), torch.cuda.device_count()
        said = f"{n} × {name}, {free / _GIB:.1f} of {whole / _GIB:.1f} GiB free"
        if free < 0.5 * whole:
            return Finding("CUDA", "warning", said, "something else uses the card: nvidia-smi tells what")
        return Finding("CUDA", "ok", said)
    if shutil.which("nvidia-smi") is None and not os.path.exists("/dev/nvidia0"):
        return Finding("CUDA", "ok", "no GPU here: everything runs on the CPU")
    if not torch.version.cuda:
        return Finding(
            "CUDA",
            "warning",
            "a GPU is here, but this torch is built without CUDA",
            "install torch for CUDA: https://pytorch.org/get-started",
        )
    return Finding(
        "CUDA",
        "warning",
        "a GPU is here, but torch cannot use it",
        f"update the driver to one for CUDA {torch.version.cuda}: nvidia-smi tells which it is",
    )


def _on_gpu(capability: tuple[int, int], has_bf16: bool) -> Iterator[Finding]:
    number = ".".join(map(str, capability))
    if has_bf16 and capability >= _AMPERE:
        yield Finding("bf16", "ok", f"in hardware (compute capability {number})")
    else:
        yield Finding(
            "bf16", "warning", f"not in hardware (compute capability {number})", "use --dtype float16 or float32"
        )
    if importlib.util.find_spec("flash_attn") is None:
        yield Finding("flash-attention", "ok", "not installed: torch's own attention (sdpa) is used")
    elif capability < _AMPERE:
        yield Finding(
            "flash-attention",
            "warning",
            f"installed, but not for compute capability {number}",
            "use --attn sdpa, the default",
        )
    else:
        yield Finding("flash-attention", "ok", f"{version('flash-attn')}, with --attn flash_attention_2")


def _bitsandbytes(has_gpu: bool) -> Finding:
    try:
        return Finding("bitsandbytes", "ok", f"{version('bitsandbytes')}, for --quantize")
    except PackageNotFoundError:
        do = "for --quantize: pip install 'relope[quantize]'" if has_gpu else ""
        return Finding("bitsandbytes", "ok", "not installed", do)
