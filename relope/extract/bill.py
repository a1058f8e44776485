"""What an extraction will cost on disk and in time, from real prompts of a sample of the data."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import token_columns
from relope.extract.timing import Timing
from relope.types import Sample

log = logging.getLogger(__name__)
ZSTD_RATIO = {"bfloat16": 1.4, "float32": 1.1}
"""Stored dtype → how many times smaller zstd is assumed to make states.

Choice: 1.40 to 1.45 was measured on bfloat16 states of real models; float32 states keep twice the
mantissa, which does not compress.
"""
TRIED = 64
BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Bill:
    """Bytes of a store that is still to be written.

    Attributes:
        samples: how many.
        tokens: prompt tokens of an average sample.
        longest: prompt tokens of the longest sample that was looked at.
        tried: how many were looked at.
        all_tokens: layer → bytes of every token's state.
        last_tokens: bytes of the last tokens' states, a layer.
        lean_layers: layers that keep every token with ``--tokens lean``.
        rest: bytes of answers, token columns and block l's weights.
        free: bytes free where the store will be.
        zstd: assumed ratio.
        timing: of a few batches, if any were run.
    """

    samples: int
    tokens: float
    longest: int
    tried: int
    all_tokens: dict[int, int]
    last_tokens: int
    lean_layers: tuple[int, ...]
    rest: int
    free: int
    zstd: float
    timing: Timing | None = None

    @property
    def seconds(self) -> float | None:
        """How long all samples will take; None when nothing was run."""
        return self.timing.of(self.tokens * self.samples) if self.timing else None

    def total(self, tokens: str, *, zstd: bool = False) -> int:
        """Return the bytes of the whole store with ``--tokens all`` or ``lean``."""
        kept = [size for layer, size in self.all_tokens.items() if tokens == "all" or layer in self.lean_layers]
        states = sum(kept) + len(self.all_tokens) * self.last_tokens
        return round(states / (self.zstd if zstd else 1)) + self.rest

    def lines(self, asked: str, out: Path) -> list[str]:
        """Return the bill as a person reads it; ``asked`` is ``--tokens``, ``out`` the store."""
        found = [
            f"{self.samples} samples of {self.tokens:.0f} prompt tokens on average (longest {self.longest}; "
            f"{self.tried} were read)",
            *(f"layer {layer}: {readable(size)} for every token" for layer, size in self.all_tokens.items()),
        ]
        for tokens in ("all", "lean"):
            size, packed = readable(self.total(tokens)), readable(self.total(tokens, zstd=True))
            found.append(f"--tokens {tokens}: {size}; with zstd about {packed} (ratio {self.zstd:g} assumed)")
        fits = "fits" if self.total(asked) <= self.free else "does not fit"
        found.append(f"free where {out} will be: {readable(self.free)}: --tokens {asked} {fits}")
        found.append(self._time())
        return found

    def _time(self) -> str:
        if self.timing is None or self.seconds is None:
            return "time is not estimated: add --measure 64 to load the model and run 64 samples"
        run, took = self.timing.samples, self.timing.seconds
        return f"about {duration(self.seconds)} in all: {run} samples took {duration(took)} ({run / took:.3g}/s)"

    def facts(self) -> dict[str, object]:
        """Return everything as JSON values."""
        totals = {
            f"{tokens}{'_zstd' if zstd else ''}": self.total(tokens, zstd=zstd)
            for tokens in ("all", "lean") for zstd in (False, True)
        }  # fmt: skip
        layers = {str(layer): size for layer, size in self.all_tokens.items()}
        return {
            "samples": self.samples, "tokens_per_sample": self.tokens, "longest_seen": self.longest,
            "samples_read": self.tried, "bytes_per_layer": layers, "bytes_last_token_per_layer": self.last_tokens,
            "bytes_rest": self.rest, "bytes_total": totals, "assumed_zstd_ratio": self.zstd, "bytes_free": self.free,
            "seconds": self.seconds, "samples_run": self.timing.samples if self.timing else 0,
        }  # fmt: skip


def draw_up(
    backbone: Backbone, samples: Sequence[Sample], layers: Sequence[int], stored: str, out: Path, text_only: bool
) -> Bill:
    """Return the bill of an extraction; up to ``TRIED`` samples, evenly spread, go through the processor.

    Args:
        backbone: the model; a skeleton without weights will do.
        samples: what shall be extracted.
        layers: layers that are kept.
        stored: stored dtype.
        out: where the store will be.
        text_only: put captions in place of pictures.
    """
    step = max(1, -(-len(samples) // TRIED))
    lengths = [backbone.inputs([sample], text_only)["input_ids"].shape[1] for sample in samples[::step]]
    mean = sum(lengths) / max(len(lengths), 1)
    a_state = backbone.hidden_size * BYTES[stored]
    n_tokens = round(mean * len(samples))
    block = sum(p.numel() * p.element_size() for p in backbone.blocks[max(layers) - 1].parameters())
    columns = n_tokens * len(token_columns(backbone)) * 4
    return Bill(
        samples=len(samples), tokens=mean, longest=max(lengths, default=0), tried=len(lengths),
        all_tokens={layer: n_tokens * a_state for layer in layers}, last_tokens=len(samples) * a_state,
        lean_layers=tuple(layers[:-1]) or tuple(layers),
        rest=len(samples) * a_state + columns + (block if max(layers) - 1 in layers else 0),
        free=free_bytes(out), zstd=ZSTD_RATIO[stored],
    )  # fmt: skip


def warn_if_full(bill: Bill, asked: str, out: Path) -> None:
    """Log a warning when what is still to be written will not fit on the disk."""
    if bill.samples and (needed := bill.total(asked)) > bill.free:
        log.warning(
            "%s needs about %s and its disk has %s free (--tokens lean: %s); `relope plan` with the same flags shows "
            "what takes how much", out, readable(needed), readable(bill.free), readable(bill.total("lean"))
        )  # fmt: skip


def free_bytes(path: Path) -> int:
    """Return the bytes free on the disk where a path is or will be."""
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def readable(size: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
