"""What an extraction will cost on disk and in time, from real prompts of a sample of the data."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relope.extract.batches import Batches
from relope.extract.model.generate import token_columns
from relope.extract.timing import Timing
from relope.store import human_bytes
from relope.types import Sample
from relope.words import counted

log = logging.getLogger(__name__)
ZSTD_RATIO = {"bfloat16": 1.4, "float32": 1.1}
"""Stored dtype → how many times smaller zstd is assumed to make states.

Choice: 1.40 to 1.45 was measured on bfloat16 states of real models; float32 states keep twice the
mantissa, which does not compress.
"""
TRIED = 64
"""Prompts that are read at most."""

KEPT = {"all": "every token kept", "lean": "lean"}
"""Which tokens are kept → how a bill says it."""

ASKED = {"all": "(default)", "lean": "(--tokens lean)"}
"""Which tokens are kept → what has `extract` keep them."""

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
        lean_layers: layers that keep every token when the others keep their last.
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
        """Return the bytes of the whole store that keeps ``all`` or ``lean`` tokens."""
        kept = [size for layer, size in self.all_tokens.items() if tokens == "all" or layer in self.lean_layers]
        states = sum(kept) + len(self.all_tokens) * self.last_tokens
        return round(states / (self.zstd if zstd else 1)) + self.rest

    def lines(self, asked: str, out: Path) -> list[str]:
        """Return the bill as a person reads it; ``asked`` is which tokens are kept, ``out`` the store."""
        lines = [
            f"{counted(self.samples, 'sample')} of {self.tokens:.0f} prompt tokens on average (longest {self.longest}; "
            f"{self.tried} were read)"
        ]
        lines += [f"layer {layer}: {human_bytes(size)} for every token" for layer, size in self.all_tokens.items()]
        for tokens in ("all", "lean"):
            size, packed = human_bytes(self.total(tokens)), human_bytes(self.total(tokens, zstd=True))
            lines.append(
                f"{KEPT[tokens]} {ASKED[tokens]}: {size}; with zstd about {packed} (ratio {self.zstd:g} assumed)"
            )
        fits = "fits" if self.total(asked) <= self.free else "does not fit"
        lines.append(f"free where {out} will be: {human_bytes(self.free)}: {KEPT[asked]} {fits}")
        return [*lines, self._time()]

    def _time(self) -> str:
        if self.timing is None or self.seconds is None:
            return "time is not estimated: no sample was run; `--measure 64` runs so many"
        run, took = self.timing.samples, self.timing.seconds
        speed = f"{counted(run, 'sample')} took {duration(took)} ({run / took:.3g}/s)"
        return f"about {duration(self.seconds)} in all: {speed}"

    def facts(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "samples": self.samples,
            "tokens_per_sample": self.tokens,
            "longest_seen": self.longest,
            "samples_read": self.tried,
            "bytes_per_layer": {str(layer): size for layer, size in self.all_tokens.items()},
            "bytes_last_token_per_layer": self.last_tokens,
            "bytes_rest": self.rest,
            "bytes_total": {
                f"{tokens}{'_zstd' * zstd}": self.total(tokens, zstd=zstd)
                for tokens in ("all", "lean")
                for zstd in (False, True)
            },
            "assumed_zstd_ratio": self.zstd,
            "bytes_free": self.free,
            "seconds": self.seconds,
            "samples_run": self.timing.samples if self.timing else 0,
        }


def tried(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return up to ``TRIED`` samples, evenly spread: those that go through the processor."""
    return samples[:: max(1, -(-len(samples) // TRIED))]


def estimate(batches: Batches, samples: Sequence[Sample], out: Path) -> Bill:
    """Return the bill of an extraction; up to ``TRIED`` samples, evenly spread, go through the processor.

    Args:
        batches: what would answer the samples; a skeleton without weights will do for its backbone.
        samples: what shall be extracted.
        out: where the store will be.
    """
    backbone, layers = batches.backbone, batches.layers
    lengths = [backbone.inputs([sample], batches.text_only)["input_ids"].shape[1] for sample in tried(samples)]
    mean = sum(lengths) / max(len(lengths), 1)
    state = backbone.hidden_size * BYTES[batches.stored]
    n_tokens = round(mean * len(samples))
    block = sum(p.numel() * p.element_size() for p in backbone.blocks[max(layers) - 1].parameters())
    columns = n_tokens * len(token_columns(backbone)) * 4
    return Bill(
        samples=len(samples),
        tokens=mean,
        longest=max(lengths, default=0),
        tried=len(lengths),
        all_tokens=dict.fromkeys(layers, n_tokens * state),
        last_tokens=len(samples) * state,
        lean_layers=tuple(layers[:-1]) or tuple(layers),
        rest=len(samples) * state + columns + (block if max(layers) - 1 in layers else 0),
        free=free_bytes(out),
        zstd=ZSTD_RATIO[batches.stored],
    )


def warn_if_full(bill: Bill, asked: str, out: Path) -> None:
    """Log a warning when what is still to be written will not fit on the disk."""
    if bill.samples and (needed := bill.total(asked)) > bill.free:
        sizes = human_bytes(needed), human_bytes(bill.free), human_bytes(bill.total("lean"))
        log.warning("%s needs about %s and its disk has %s free (lean: %s)", out, *sizes)


def free_bytes(path: Path) -> int:
    """Return the bytes free on the disk where a path is or will be."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
