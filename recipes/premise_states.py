"""What the benchmark's questions showed, on disk: they are put to a model once, however often fits are made."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from premise_ask import Asked, Replies, put_in
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger("premise_fits")
AT_ONCE = 16
"""Questions in a batch on a CPU: more do not fit its caches."""

PIECE = 500
"""Questions after which what is known is written."""

Known = dict[str, Tensor]
"""All of some replies but the tokens."""


class States:
    """A folder of replies to the first questions of a split; more of them can be asked later.

    Tokens lie in a file for each order and block, and are mapped: they take no memory that others need. A file
    beside them, written after them, says how many questions are there.
    """

    def __init__(self, folder: Path, split: str, about: dict[str, Any]) -> None:
        self.folder, self.split = folder, split
        self.about = json.dumps(about, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)

    def replies(self, model: Any, asked: Asked, orders: Sequence[str], layers: Sequence[int]) -> dict[str, Replies]:
        """Return replies to all questions, after those that are lacking have been asked in all orders.

        Args:
            model: the LLaVA, on the CPU.
            asked: the questions.
            orders: some of ORDERS.
            layers: blocks l: the last token of their output and all tokens of their input are kept.
        """
        width = model.config.text_config.hidden_size
        tokens = {
            order: {layer - 1: self._mapped(order, layer - 1, (*asked.prompts[order].shape, width)) for layer in layers}
            for order in orders
        }
        known = {order: self._read(order) for order in orders}
        for start in range(min(map(_length, known.values())), len(asked), PIECE):
            rows = slice(start, min(start + PIECE, len(asked)))
            part = asked.part(rows.start, rows.stop)
            room = {order: {number: kept[rows] for number, kept in tokens[order].items()} for order in orders}
            found = put_in(model, part, orders, last=layers, at_once=AT_ONCE, kept=room)
            for order, replies in found.items():
                known[order] = _added(known[order], start, replies)
                self._write(order, known[order])
            log.info("%s: asked %d of %d", self.split, rows.stop, len(asked))
        return {order: _replies(known[order], len(asked), layers, tokens[order]) for order in orders}

    def _mapped(self, order: str, number: int, shape: tuple[int, ...]) -> Tensor:
        name = str(self.folder / f"{self.split}.{order}.block{number}.float16")
        return torch.from_file(name, shared=True, size=torch.Size(shape).numel(), dtype=torch.float16).view(shape)

    def _file(self, order: str) -> Path:
        return self.folder / f"{self.split}.{order}.safetensors"

    def _read(self, order: str) -> Known:
        """Return what is known, nothing where it is of another model or of other blocks."""
        if not self._file(order).is_file():
            return {}
        with safe_open(self._file(order), "pt") as opened:
            if opened.metadata()["about"] != self.about:
                return {}
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it is no mapping

    def _write(self, order: str, known: Known) -> None:
        partial = self._file(order).with_suffix(".partial")
        save_file(known, partial, {"about": self.about})
        partial.rename(self._file(order))


def _length(known: Known) -> int:
    return len(known["correct"]) if known else 0


def _added(known: Known, start: int, replies: Replies) -> Known:
    new = {name: getattr(replies, name) for name in ("correct", "logprob", "entropy", "final")}
    new |= {f"last{layer}": states for layer, states in replies.last.items()}
    return {name: torch.cat([known[name][:start], value]) if known else value for name, value in new.items()}


def _replies(known: Known, n: int, layers: Sequence[int], tokens: dict[int, Tensor]) -> Replies:
    told = {name: value[:n] for name, value in known.items()}
    last = {layer: told.pop(f"last{layer}") for layer in layers}
    return Replies(last=last, tokens=tokens, **told)
