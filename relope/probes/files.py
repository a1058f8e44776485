"""A fitted router on disk: one safetensors file and one JSON file, never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from relope.errors import StoreError
from relope.provenance import write_bytes, write_json

Tensors = dict[str, npt.NDArray[Any]]


def save_state(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write ``probe.safetensors``, then ``probe.json``."""
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_bytes(folder / "probe.safetensors", save_tensors(plain))
    write_json(folder / "probe.json", dict(settings))


def load_state(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Read what ``save_state`` wrote.

    Raises:
        StoreError: a file is missing or damaged.
    """
    try:
        settings = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
        tensors = load_tensors((folder / "probe.safetensors").read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise StoreError(f"{folder} is no fitted router, or a damaged one ({error})", hint="fit it again") from error
    return settings, tensors
