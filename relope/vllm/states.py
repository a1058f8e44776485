"""The states that a vLLM server hands over: read once, checked, and removed."""

import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor

ASK = "relope_states"
"""What a request says in ``kv_transfer_params`` to be handed states, and its answer to tell where they are."""

KEPT_S = 600.0
"""How long a file lies that nobody fetches."""

_OURS = re.compile(r"[0-9a-f]{32}\.safetensors")
_LEFT = re.compile(r"[0-9a-f]{32}\.safetensors(\.part)?")
_POLL_S, _MOST_POLL_S = 0.0005, 0.004
_HEADER_BYTES = 1 << 20


class StatesError(OutputError):
    """States that a vLLM server did not hand over, or that are not what was asked for."""


@dataclass(frozen=True)
class Handed:
    """What a server has handed over of one request.

    Attributes:
        token_ids: ``[T] int64`` tokens as the server has read them, images unfolded.
        blocks: l → ``[T, H]`` output of block l in the server's dtype; of block 0, the embeddings.
    """

    token_ids: "Tensor"
    blocks: "Mapping[int, Tensor]"


def default_folder() -> Path:
    """Return the folder that both sides see where none is named: in shared memory where there is some."""
    shared = Path("/dev/shm")
    parent = shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return parent / f"relope-states-{os.getuid()}"


def ready_folder(folder: Path) -> Path:
    """Return a folder for states, made where it is not there, for this user alone.

    Raises:
        OutputError: it cannot be made, or is a link or no folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise OutputError(f"{folder} cannot hold states: {error.strerror or error}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{folder} cannot hold states: it is no folder")
    return folder


def take(folder: Path, told: Any, layers: Sequence[int], timeout_s: float = 10.0) -> Handed:
    """Wait for the states of a request, return them, and remove their file.

    Args:
        folder: that both sides see.
        told: ``kv_transfer_params`` of the answer.
        layers: blocks that were asked for.
        timeout_s: how long to wait for the file; a server writes it with the next step after the answer.

    Raises:
        StatesError: the server tells of none or of others, wrote none in time, or wrote something else.
    """
    name, n_tokens = _told(told, layers)
    path = folder / name
    data = _bytes(path, timeout_s)
    if not data:
        raise StatesError(f"the vLLM server could not write states to {folder}", hint="its log says why")
    return _parsed(data, layers, n_tokens)


def sweep(folder: Path, older_s: float = KEPT_S) -> int:
    """Remove the files of states that nobody has fetched; return how many."""
    removed, now = 0, time.time()
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return 0
    for entry in entries:
        try:
            if _LEFT.fullmatch(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime >= older_s:
                os.unlink(entry.path)
                removed += 1
        except OSError:
            continue
    return removed


def _told(told: Any, layers: Sequence[int]) -> tuple[str, int]:
    """Return the file's name and how many tokens it holds."""
    where = told.get(ASK) if isinstance(told, dict) else None
    if where is None:
        raise StatesError(
            "the vLLM server hands no states over", hint="start it by the command that `relope vllm-command` prints"
        )
    name, given, n = (
        (where.get(key) for key in ("file", "layers", "tokens")) if isinstance(where, dict) else (None,) * 3
    )
    if not isinstance(name, str) or not _OURS.fullmatch(name) or type(n) is not int or n < 1:
        raise StatesError("the vLLM server does not tell where its states are")
    if given != list(layers):
        raise StatesError(f"the vLLM server hands over the blocks {given!s:.80}, not {list(layers)}")
    return name, n


def _bytes(path: Path, timeout_s: float) -> bytes:
    """Return what a file holds, once it is there, and remove it."""
    until, pause = time.monotonic() + timeout_s, _POLL_S
    while True:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            break
        except FileNotFoundError as error:
            if time.monotonic() > until:
                raise StatesError(
                    f"no states of the vLLM server came to {path.parent} within {timeout_s:g} s",
                    hint="both sides must see that folder",
                ) from error
        except OSError as error:
            raise StatesError(f"states in {path.parent} cannot be read: {error.strerror or error}") from error
        time.sleep(pause)
        pause = min(2 * pause, _MOST_POLL_S)
    with open(opened, "rb") as file:
        data = file.read()
    path.unlink(missing_ok=True)
    return data


def _parsed(data: bytes, layers: Sequence[int], n_tokens: int) -> Handed:
    """Return the tensors in the bytes of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if int.from_bytes(data[:8], "little") > _HEADER_BYTES:
        raise StatesError("what the vLLM server wrote is no file of states")
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise StatesError(f"what the vLLM server wrote is no file of states ({error!s:.80})") from error
    names = {f"block.{layer}": layer for layer in layers}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes = {shapes.get(name, ())[1:] for name in names}
    sound = shapes.keys() == {*names, "token_ids"} and len(sizes) == 1 and all(len(size) == 1 for size in sizes)
    if not sound or any(shape[:1] != (n_tokens,) for shape in shapes.values()):
        raise StatesError(f"the vLLM server wrote {shapes!s:.120}, not {n_tokens:,} tokens of blocks {list(layers)}")
    return Handed(tensors["token_ids"], {layer: tensors[name] for name, layer in names.items()})
