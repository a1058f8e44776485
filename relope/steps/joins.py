"""What joins one store to another: the same samples, asked the same, judged by the same grader."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.evaluate.numbers.persample import perturbation_name
from relope.extract.data.flaws import read_skipped
from relope.store import ActivationStore, Identity
from relope.store.grade_files import grader_flags, orders
from relope.store.grades import correct_of, read_grades
from relope.store.labels import BY, HUMAN, IMPORTED, LABELS, corrected_grader
from relope.types import ResultWarning

VIEW = ("text_only", "captions", "perturbation")
"""Fields of an identity that say how a sample's images are shown to the model."""


def view_of(identity: Mapping[str, Any]) -> str:
    """Return how a store's samples were shown, where that is not as they are: ``text only``, ``images with noise``."""
    shown = ["text only"] if identity.get("text_only") else []
    if identity.get("perturbation"):
        shown.append(f"images with {perturbation_name(identity['perturbation'])}")
    return ", ".join(shown)


def free_parts(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what may differ between the samples of two stores: images, where the recipes show them otherwise."""
    return ("images",) if any((first.get(name) or None) != (second.get(name) or None) for name in VIEW) else ()


def require_grades(other: ActivationStore, grader: str, label: str) -> str:
    """Refuse a store that is not judged as another one is; return by whom it is.

    Args:
        other: the store that is joined.
        grader: ``grader@version`` of the grades of the other store.
        label: of that store.

    Returns:
        The grades of the joined store: by the same grader, else the verdicts of the tool that its answers come from.

    Raises:
        InvalidInputError: it has neither: rights and wrongs of two graders say nothing about two models.
    """
    known = orders(other.path)
    if grader in known:
        return grader
    if IMPORTED not in known:
        has = f"has grades by {', '.join(known)}" if known else "has no grades"
        raise InvalidInputError(
            f"{label} is judged by {grader}, but {other.label} {has}; both must be judged by one grader and version",
            hint=f"`relope grade {grader_flags(grader)} --store …`, on both stores if versions differ",
        )
    return IMPORTED


def learned_otherwise(
    name: str, learned: str, judge: str, now: str = "is evaluated on grades"
) -> tuple[ResultWarning, ...]:
    """Return the warning that a method calls for which learned from grades by another grader than now judges.

    Args:
        name: of the method.
        learned: ``grader@version`` that judged what it learned from; of several stores each, joined by " + ";
            ``""`` where it learned nothing, or an older relope did not say.
        judge: ``grader@version`` that judges now; ``""`` where nobody does.
        now: what that means for the method.
    """
    if not learned or not judge or judge in learned.split(" + "):
        return ()
    text = f"{name} learned from grades by {learned} and {now} by {judge}"
    return (ResultWarning("wrong", f"{text}: what it predicts is not what is counted."),)


def large_correct(
    large: ActivationStore, grader: str, label: str, identity: Identity, samples: pl.DataFrame
) -> npt.NDArray[np.bool_]:
    """Return ``[N]`` whether the large model is right on the samples of a small model's store.

    Args:
        large: the large model's store.
        grader: ``grader@version`` that judged the small model's answers.
        label: of the small model's store.
        identity: of that store.
        samples: ``[N]`` rows of it.

    Raises:
        InvalidInputError: it holds the very answers of the small model, another grader judged them, it lacks
            samples, or one was asked something else.
    """
    if large.recipe_id == identity.recipe_id:
        raise InvalidInputError(
            f"{large.label} and {label} hold answers of {large.manifest.recorded['model']}, made alike",
            hint="--large-store takes a store of the larger model",
        )
    judge = require_grades(large, grader, label)
    return correct_of(large, samples, judge, free=free_parts(identity, large.manifest.identity))


def not_refused(
    larges: Sequence[ActivationStore], samples: pl.DataFrame, so: str
) -> tuple[npt.NDArray[np.bool_], tuple[ResultWarning, ...]]:
    """Return ``[N]`` which samples stay: not those that a large model was asked in vain; and what is to be said of it.

    A server refuses some by its content filter, and would again. Others that a store lacks stay: they were not asked.

    Args:
        larges: stores of large models, whose skipped.json names them.
        samples: ``[N]`` rows of the small model's store.
        so: what that means for what is made of the others.
    """
    stay, warnings = np.ones(len(samples), bool), []
    for large in larges:
        answered, skipped = set(large.samples["id"]), read_skipped(large.path)
        asked = samples.filter(stay)["id"]
        lacking = [name for name in asked if name in skipped and name not in answered]
        if not lacking or len(lacking) == len(asked):
            continue
        model, why = large.manifest.recorded["model"], skipped[lacking[0]].get("reason")
        text = f"{len(lacking):,} of {len(asked):,} samples are left out, to which {model} gave no answer"
        warnings.append(ResultWarning("unsure", f"{text} ({lacking[0]}: {why}): {so}."))
        stay &= ~samples["id"].is_in(lacking).to_numpy()
    return stay, tuple(warnings)


def judged_elsewhere(large: ActivationStore, grader: str, small: str) -> tuple[ResultWarning, ...]:
    """Return the warning that two models call for which are not judged by one grader.

    Args:
        large: the large model's store.
        grader: ``grader@version`` that judged the small model's answers.
        small: name of that model.
    """
    if grader in orders(large.path):
        return ()
    model = large.manifest.recorded["model"]
    text = f"{model} is judged by the tool that its answers come from ({IMPORTED}) and {small} by {grader}"
    return (ResultWarning("unsure", f"{text}: what the one counts as right the other may not."),)


def corrected_by_hand(store: ActivationStore, grader: str, samples: pl.DataFrame) -> tuple[ResultWarning, ...]:
    """Return the note that grades call for which people have corrected: how many they gave, and whose the others are.

    Args:
        store: whose answers are judged.
        grader: ``grader@version`` that judges them.
        samples: those that are counted.
    """
    if grader != LABELS or grader not in orders(store.path):
        return ()
    table = read_grades(store, grader).table
    if not (others := corrected_grader(table)):
        return ()
    n = len(table.filter((pl.col(BY) == HUMAN) & pl.col("id").is_in(samples["id"].to_list())))
    text = f"of the {len(samples):,} grades of {store.manifest.recorded['model']}, {n:,} were given by hand"
    return (ResultWarning("note", f"{text} ({grader}); the others are those of {others}."),)
