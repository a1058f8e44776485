"""The states that a vLLM server hands over: read once, checked, and removed."""

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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

WAIT_S = 600.0
"""How long a file is waited for: it comes with the server's next step, which may read many long prompts."""

TRIAL_S = 30.0
"""How long the file of the first request is waited for, where nothing else is asked."""

ROOM_BYTES = 1 << 30
"""Of shared memory at least, to be taken unasked: states of one long prompt take some 30 MB, and many are under way."""

_OURS = re.compile(r"[0-9a-f]{32}\.safetensors")
_LEFT = re.compile(r"[0-9a-f]{32}\.safetensors(\.part)?")
_POLL_S, _MOST_POLL_S, _LOOK_S = 0.0005, 0.004, 5.0
_FULL = tuple(str(number).encode() for number in (errno.ENOSPC, errno.EDQUOT))
_LENGTH_BYTES, _HEADER_BYTES = 8, 1 << 20


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
    """Return the folder that both sides see where none is named: in shared memory where there is enough of it."""
    shared = Path("/dev/shm")
    fits = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).total >= ROOM_BYTES
    return (shared if fits else Path(tempfile.gettempdir())) / f"relope-states-{os.getuid()}"


def ready_folder(folder: Path) -> Path:
    """Return a folder for states, made where it is not there, for this user alone.

    Raises:
        OutputError: it cannot be made, is a link or no folder, or others than this user may write or read there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot hold states: {error.strerror or error}") from error
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse a folder for states that another user could put others into.

    Raises:
        OutputError: it is not there, is a link or no folder, or others than this user may write or read there.
    """
    try:
        status = folder.lstat()
    except OSError as error:
        raise OutputError(f"{folder} cannot hold states: {error.strerror or error}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{folder} cannot hold states: it is no folder")
    if status.st_uid != os.getuid():
        raise OutputError(
            f"{folder} cannot hold states: it is of user {status.st_uid}, who could put others in their place",
            hint="name another folder by --vllm-states (of vllm-command: --states)",
        )
    if status.st_mode & 0o077:
        raise OutputError(
            f"{folder} cannot hold states: others may look into it (mode {stat.S_IMODE(status.st_mode):o}, not 700)",
            hint=f"name one of your own, e.g. {folder / 'relope-states'}, or chmod 700 it if nothing else is there",
        )


def take(
    folder: Path,
    told: Any,
    layers: Sequence[int],
    timeout_s: float = WAIT_S,
    lives: Callable[[], bool] = lambda: True,
) -> Handed:
    """Wait for the states of a request, return them, and remove their file.

    Args:
        folder: that both sides see.
        told: ``kv_transfer_params`` of the answer.
        layers: blocks that were asked for.
        timeout_s: how long to wait for the file; a server writes it with the next step after the answer.
        lives: whether the server still does, asked now and then; where it does not, nothing more is waited for.

    Raises:
        StatesError: the server tells of none or of others, wrote none in time, or wrote something else.
    """
    name, n_tokens = _told(told, layers)
    path = folder / name
    data = _bytes(path, timeout_s, lives)
    if data in _FULL:
        disk = shutil.disk_usage(folder)
        raise StatesError(
            f"the vLLM server could not write states to {folder}: its file system is full ({disk.free >> 20:,} of "
            f"{disk.total >> 20:,} MiB are free now)",
            hint="name a folder with more room by --vllm-states (of vllm-command: --states)",
        )
    if len(data) < _LENGTH_BYTES:
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


def _bytes(path: Path, timeout_s: float, lives: Callable[[], bool]) -> bytes:
    """Return what a file holds, once it is there, and remove it."""
    begun, pause = time.monotonic(), _POLL_S
    looked = begun
    while True:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            break
        except FileNotFoundError as error:
            now = time.monotonic()
            if now - begun > timeout_s:
                raise StatesError(
                    f"no states of the vLLM server came to {path.parent} within {timeout_s:g} s",
                    hint="both sides must see that folder",
                ) from error
            if now - looked > _LOOK_S:
                if not lives():
                    raise StatesError(
                        "the vLLM server does not answer any more, and has left no states", hint="its log says why"
                    ) from error
                looked = time.monotonic()
        except OSError as error:
            raise StatesError(f"states in {path.parent} cannot be read: {error.strerror or error}") from error
        time.sleep(pause)
        pause = min(2 * pause, max(_MOST_POLL_S, (time.monotonic() - begun) / 100))
    with open(opened, "rb") as file:
        data = file.read()
    path.unlink(missing_ok=True)
    return data


def _parsed(data: bytes, layers: Sequence[int], n_tokens: int) -> Handed:
    """Return the tensors in the bytes of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if int.from_bytes(data[:_LENGTH_BYTES], "little") > _HEADER_BYTES:
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
