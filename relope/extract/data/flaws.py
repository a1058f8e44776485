"""Samples that cannot be used, and samples that changed since they were extracted."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.data.halves import TORN
from relope.extract.data.labels import UNLABELLED
from relope.provenance import digest
from relope.seals import opened_json, read_plain, write_sealed_json
from relope.types import LETTERS, LazyImage, Progress, Sample, no_progress
from relope.words import first_of

SKIPPED = "skipped.json"
WORKERS = 8
Sizes = dict[str, tuple[int, int]]
"""Image digest → width and height."""

MAX_CHARACTERS = 200_000
"""Of a sample's text at most: several times what fits into the context of a model, and what a tokenizer still ends."""

_SHOWN = 3
_BATCH = 64


@dataclass(frozen=True)
class Flaw:
    """Why a sample cannot be used."""

    id: str
    split: str
    reason: str


def input_digest(sample: Sample) -> str:
    """Return the sha256 (hex) of everything that is asked and counts as right, images included.

    The caption counts too; extraction takes it off where images are shown.
    """
    images = [image.digest for image in sample.images]
    asked = [sample.question, list(sample.choices), sample.hint, sample.instruction, sample.caption]
    before = [sample.said_before] if sample.said_before else []  # digests of other samples stay as they were
    return digest([*asked, list(sample.answers), images, *before])


def find_flaws(
    samples: Sequence[Sample], text_only: bool, progress: Progress = no_progress
) -> tuple[list[Flaw], Sizes]:
    """Return the samples that cannot be used, and the sizes of all images.

    Every distinct image is decoded once, on several threads.

    Args:
        samples: what is about to be extracted.
        text_only: captions take the place of images, which are then not looked at.
        progress: told how many samples are checked.
    """
    looked_at = {} if text_only else look_at(distinct_images(samples), progress)
    broken = {digest: fault for digest, fault in looked_at.items() if isinstance(fault, str)}
    reasons = ((sample, _flaw_of(sample, text_only) or _broken_image(sample, broken)) for sample in samples)
    flaws = [Flaw(sample.id, sample.split, reason) for sample, reason in reasons if reason]
    return flaws, {digest: size for digest, size in looked_at.items() if not isinstance(size, str)}


def find_plain_flaws(samples: Sequence[Sample], text_only: bool) -> list[Flaw]:
    """Return the samples that cannot be used whatever their images are, which are not looked at."""
    reasons = ((sample, _flaw_of(sample, text_only)) for sample in samples)
    return [Flaw(sample.id, sample.split, reason) for sample, reason in reasons if reason]


def _broken_image(sample: Sample, broken: Mapping[str, str]) -> str:
    faults = ((number, broken.get(image.digest)) for number, image in enumerate(sample.images, 1))
    return next((f"image {number}: {fault}" for number, fault in faults if fault), "")


def _flaw_of(sample: Sample, text_only: bool) -> str:
    if not sample.question.strip():
        return "the question is empty"
    if (n := _n_characters(sample)) > MAX_CHARACTERS:
        return f"its text has {n:,} characters, more than {MAX_CHARACTERS:,}"
    if wrong := sample.meta.get("flaw") or sample.meta.get(TORN):
        return str(wrong)
    if not any(answer.strip() for answer in sample.answers) and UNLABELLED not in sample.meta:
        return "it has no answer"
    if sample.choices and not set(sample.answers) <= set(LETTERS[: len(sample.choices)]):
        return f"the answer {', '.join(sample.answers)} is none of the {len(sample.choices)} choices"
    if text_only and sample.images and not sample.caption:
        return "it has no caption to stand in for its image"
    return ""


def _n_characters(sample: Sample) -> int:
    texts = (sample.question, sample.hint, sample.instruction, sample.caption, *sample.choices, *sample.answers)
    return sum(map(len, texts)) + sum(len(text) for _, text in sample.said_before)


def distinct_images(samples: Sequence[Sample]) -> list[LazyImage]:
    """Return every image once, in the order of the samples."""
    return list({image.digest: image for sample in samples for image in sample.images}.values())


def look_at(images: Sequence[LazyImage], progress: Progress = no_progress) -> dict[str, str | tuple[int, int]]:
    """Return digest → size of every image, or what is wrong with it; each is decoded once."""
    looked_at: dict[str, str | tuple[int, int]] = {}
    with ThreadPoolExecutor(WORKERS) as threads:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            sizes = threads.map(_size_or_fault, batch)
            looked_at |= {image.digest: size for image, size in zip(batch, sizes, strict=True)}
            progress(min(start + _BATCH, len(images)), len(images))
    return looked_at


def _size_or_fault(image: LazyImage) -> tuple[int, int] | str:
    try:
        return image.open().size
    except FileNotFoundError as error:
        return f"there is no file {error.filename}"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error)
    except ValueError as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__


def without_flawed(samples: Sequence[Sample], flaws: Sequence[Flaw], strict: bool) -> list[Sample]:
    """Return the samples that are left.

    Raises:
        InvalidInputError: one is flawed and the user wants none to be, or none is left.
    """
    if flaws and (strict or len(flaws) == len(samples)):
        raise InvalidInputError(
            f"{len(flaws)} of {len(samples)} samples cannot be used: {describe(flaws)}",
            hint=f"mend or remove them{', or drop --strict to skip them' if strict else ''}",
        )
    flawed = {flaw.id for flaw in flaws}
    return [sample for sample in samples if sample.id not in flawed]


def describe(flaws: Sequence[Flaw]) -> str:
    """Return the first few flaws as text; samples of one reason stand before it together."""
    alike: dict[str, list[str]] = {}
    for flaw in flaws:
        alike.setdefault(flaw.reason, []).append(flaw.id)
    return first_of([f"{first_of(ids, _SHOWN)}: {reason}" for reason, ids in alike.items()], _SHOWN, "; ")


def write_skipped(store: Path, samples: Sequence[Sample], flaws: Sequence[Flaw]) -> None:
    """Name the skipped samples in the store; those of this run that are fine now are taken off.

    No file is written, and an old one is kept as it is, when nothing changes.
    """
    path = store / SKIPPED
    known = read_skipped(store)
    looked_at = {sample.id for sample in samples}
    kept = {name: entry for name, entry in known.items() if name not in looked_at}
    now = kept | {flaw.id: {"split": flaw.split, "reason": flaw.reason} for flaw in flaws}
    if now != known:
        write_sealed_json(path, {"samples": now})


def read_skipped(store: Path) -> dict[str, Any]:
    """Return id → split and reason of the samples that were skipped."""
    path = store / SKIPPED
    value = opened_json(read_plain(path), str(path))[0] if path.exists() else {}
    return dict(value["samples"]) if isinstance(value.get("samples"), dict) and len(value) == 1 else value


def check_unchanged(known: Mapping[str, str], samples: Sequence[Sample]) -> None:
    """Make sure that samples which a store holds still ask the same.

    Args:
        known: id → `input_digest` of the samples in the store.
        samples: what the data set holds now.

    Raises:
        InvalidInputError: a sample's question, choices, answer or image is another one now.
    """
    changed = list(_changed(known, samples))
    if changed:
        raise InvalidInputError(
            f"{len(changed)} samples have changed since they were extracted (first: {changed[0]})",
            hint="give changed samples new ids, or extract into a new --out",
        )


def _changed(known: Mapping[str, str], samples: Sequence[Sample]) -> Iterator[str]:
    for sample in samples:
        if sample.id in known and known[sample.id] != input_digest(sample):
            yield sample.id
