"""The state of a fit on disk, so that a killed one goes on where it was."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from relope.provenance import write_bytes, write_json
from relope.types import Progress

log = logging.getLogger(__name__)
_SHARE = 0.05
"""At most this part of a fit's time goes into writing its state."""


@dataclass
class History:
    """Inner validation AUC and mean loss of each epoch, and the epoch whose weights are kept (from 0)."""

    auc: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    best: int = -1

    def stale(self, patience: int) -> bool:
        """Return whether the AUC has not risen for ``patience`` epochs."""
        return len(self.auc) - 1 - self.best >= patience


class Checkpoint:
    """One file with everything that the next epoch depends on: tensors, and the history as JSON.

    Weights, the best epoch's weights and the optimizer's moments are tensors. Random numbers need
    no state: those of an epoch follow from the seed and the epoch's number. Being one file, it is
    whole or missing.

    Args:
        path: the file, or None to keep nothing.
        key: names the fit; a file of another fit is not read.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self._next = 0.0

    def write(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, history: History, kept: dict[str, Tensor]
    ) -> None:
        """Replace the file, unless it was written so recently that this would slow the fit down."""
        begun = time.monotonic()
        if self.path is None or begun < self._next:
            return
        tensors = {f"now.{name}": tensor for name, tensor in module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in kept.items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(self.path, save(plain, {"key": self.key, "history": json.dumps(asdict(history))}))
        ended = time.monotonic()
        self._next = ended + (ended - begun) / _SHARE

    def read(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[History, dict[str, Tensor]]:
        """Put module and optimizer in the state that was written; return history and best weights."""
        if self.path is None or not self.path.is_file():
            return History(), {}
        try:
            with safe_open(self.path, "pt") as file:
                if file.metadata()["key"] != self.key:
                    return History(), {}
                history = History(**json.loads(file.metadata()["history"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read (%s): the fit starts anew", self.path, error)
            return History(), {}
        module.load_state_dict(_below(tensors, "now"))
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _below(tensors, "optimizer").items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        log.info("going on after epoch %d from %s", len(history.auc), self.path)
        return history, _below(tensors, "best")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def state_file(out: Path, fingerprint: str) -> Path:
    """Return where the fit of a router keeps its state; another fit's state is removed."""
    folder, stem = out / ".unfinished", fingerprint[:32]
    for other in folder.glob("*") if folder.is_dir() else ():
        if not other.name.startswith(stem):
            other.unlink(missing_ok=True)
    return folder / f"{stem}.safetensors"


class Spent:
    """What a fit has cost so far, beside its state: of one that was killed the earlier legs count too.

    Args:
        state: the state's file.
        bytes_read: by the store until now.
    """

    def __init__(self, state: Path, bytes_read: int) -> None:
        self._state, self._path = state, state.with_suffix(".spent.json")
        self._seconds, self._bytes = _read_spent(self._path)
        self._begun, self._first_byte, self._next = time.perf_counter(), bytes_read, 0.0

    def until(self, bytes_read: int) -> tuple[float, int]:
        """Return seconds and bytes read of all legs, given the bytes that the store has read until now."""
        return self._seconds + time.perf_counter() - self._begun, self._bytes + bytes_read - self._first_byte

    def noting(self, progress: Progress, bytes_read: Callable[[], int]) -> Progress:
        """Return a progress callback that also writes down what was spent, unless that would slow the fit down."""

        def told(done: int, total: int) -> None:
            begun = time.perf_counter()
            if begun >= self._next and done < total and self._state.is_file():  # else nothing is gone on from
                write_json(self._path, list(self.until(bytes_read())))
                ended = time.perf_counter()
                self._next = ended + (ended - begun) / _SHARE
            progress(done, total)

        return told


def _read_spent(path: Path) -> tuple[float, int]:
    try:
        seconds, n_bytes = json.loads(path.read_bytes())
        return float(seconds), int(n_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return 0.0, 0
    except (ValueError, TypeError, OSError) as error:
        log.warning("%s cannot be read (%s): what was spent before is not counted", path, error)
        return 0.0, 0


def remove_state(state: Path) -> None:
    """Delete the state of a fit that is finished."""
    shutil.rmtree(state.parent, ignore_errors=True)
