"""What every calibration does with a promise: refuse one that cannot be made, put the bundle in its place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.guarantee import Promise
from relope.evaluate.numbers.metrics import Floats
from relope.partial import partial_folder
from relope.provenance import cannot_write
from relope.serve.bundle import Bundle, is_bundle, write_bundle
from relope.serve.card import goal_text, group_word, write_card
from relope.types import ResultWarning

MOST_SCORES = 2000
"""Scores of the calibration that a bundle keeps."""


def promised(promise: Promise) -> Promise:
    """Return a promise that was made.

    Raises:
        InvalidInputError: it cannot be made; the message says what would do.
    """
    if promise.threshold is not None:
        return promise
    needed = f"about {promise.n_needed:,} like these would do" if promise.n_needed else "no number of them would do"
    raise InvalidInputError(
        f"{goal_text(promise)} cannot be promised with {100 * promise.confidence:.3g} % confidence on "
        f"{promise.n:,} independent samples; {needed}",
        hint=f"calibrate on more samples, {_easier(promise)}, or lower --confidence",
    )


def beyond_groups(bundle: Bundle) -> list[ResultWarning]:
    """Return what must be said of a promise that holds for one query of each group, and not over all samples."""
    promise, group = bundle.promise, group_word(bundle)
    if not promise.broken_on_all:
        return []
    value = f"{promise.holds} is {100 * (promise.on_all or 0):.1f} % where all samples of each {group} count"
    text = f"{value}, beyond the {100 * promise.bound:.3g} % that are promised of one query of each"
    return [ResultWarning("unsure", text)]


def _easier(promise: Promise) -> str:
    """Return what is easier to promise."""
    if promise.holds.startswith("accuracy"):
        return "ask for a lower accuracy"
    return f"allow a larger {'error' if promise.holds.startswith('error') else 'budget'}"


def reference_scores(alone: Floats, seed: int) -> tuple[float, ...]:
    """Return scores that live ones are compared with, in their order.

    Args:
        alone: of independent samples.
        seed: decides which are kept.
    """
    drawn = np.random.default_rng(seed).permutation(alone)[:MOST_SCORES]
    return tuple(np.sort(drawn).tolist())


def check_place(out: Path) -> None:
    """Refuse to put a bundle where something else stands.

    Raises:
        InvalidInputError: something does.
    """
    if out.exists() and not is_bundle(out):
        raise InvalidInputError(f"{out} exists and is no bundle", hint="give another --out")


def put_bundle(out: Path, bundle: Bundle, fill: Callable[[Path], None]) -> Bundle:
    """Write a bundle beside its place, then put it there in one rename.

    Args:
        out: its place.
        bundle: its record.
        fill: writes the router's files into a folder.

    Raises:
        OutputError: the system refuses.
    """
    try:
        with partial_folder(out) as partial:
            fill(partial)
            write_card(partial, bundle)
            finished = write_bundle(partial, bundle)
            if out.exists():
                shutil.rmtree(out)
            partial.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    return finished
