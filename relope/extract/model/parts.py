"""The weights of single modules of a decoder, where the model itself runs in another process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from relope.errors import UnsupportedError
from relope.extract.model.interfaces import Decoder, Model


def load_parts(name: str, model: Model, folder: Path, layers: Sequence[int], dtype: torch.dtype) -> None:
    """Put the weights of the final norm, and of blocks, into a model without weights.

    A block whose weights the class makes out of others (fused experts, say) is left without.

    Args:
        name: of the model, for errors.
        model: on the meta device.
        folder: of the checkpoint.
        layers: 1-based numbers of blocks.
        dtype: of the weights.

    Raises:
        UnsupportedError: the checkpoint does not say which norm is the decoder's.
    """
    decoder, files = model.get_decoder(), _files(folder)
    try:
        prefix = _prefix(name, decoder, files)
        _fill(decoder.norm, f"{prefix}norm.", files, dtype)
        for layer in layers:
            _fill(decoder.layers[layer - 1], f"{prefix}layers.{layer - 1}.", files, dtype)
    except (OSError, SafetensorError) as error:
        raise UnsupportedError(f"the weights of model {name} in {folder} cannot be read: {error!s:.200}") from error


def _files(folder: Path) -> dict[str, Path]:
    """Return tensor → file, as the index tells them, else as the files do."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        mapped = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(key): folder / str(file) for key, file in mapped.items()}
    file_of = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            file_of.update(dict.fromkeys(file.keys(), path))
    return file_of


def _prefix(name: str, decoder: Decoder, files: Mapping[str, Path]) -> str:
    """Return what the names of the decoder's weights begin with in the files: its depth and its norm tell it."""
    depth = len(decoder.layers)
    shapes = {key: tuple(weight.shape) for key, weight in decoder.norm.named_parameters()}
    ends = [f"norm.{key}" for key in shapes]
    fits = []
    for key in files:
        if not ends or not key.endswith(ends[0]) or key.removesuffix(ends[0]).endswith("_"):
            continue
        prefix = key.removesuffix(ends[0])
        held = {int(n) for other in files if (n := _number(other, f"{prefix}layers.")).isdigit()}
        alike = all(_shape(files, f"{prefix}norm.{part}") == shape for part, shape in shapes.items())
        if held == set(range(depth)) and alike:
            fits.append(prefix)
    if len(fits) != 1:
        raise UnsupportedError(f"the files of model {name} do not tell which of their weights are its decoder's norm")
    return fits[0]


def _number(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).partition(".")[0] if key.startswith(prefix) else ""


def _shape(files: Mapping[str, Path], key: str) -> tuple[int, ...] | None:
    if key not in files:
        return None
    with safe_open(files[key], "pt") as file:
        return tuple(file.get_slice(key).get_shape())


def _fill(module: nn.Module, prefix: str, files: Mapping[str, Path], dtype: torch.dtype) -> None:
    wanted = {key: tuple(weight.shape) for key, weight in module.state_dict().items()}
    if any(_shape(files, prefix + key) != shape for key, shape in wanted.items()):
        return
    module.load_state_dict({key: _read(files, prefix + key).to(dtype) for key in wanted}, assign=True)
    module.requires_grad_(False)


def _read(files: Mapping[str, Path], key: str) -> Tensor:
    with safe_open(files[key], "pt") as file:
        tensor: Tensor = file.get_tensor(key)
    return tensor
