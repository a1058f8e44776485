"""From what is evaluated to what a report is made of: methods, costs, images and where all of it comes from."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from relope import registry
from relope.command_line import now
from relope.evaluate.numbers.answer_seconds import AnswerSeconds
from relope.evaluate.numbers.costs import Costs, PriceList
from relope.evaluate.numbers.inputs import LargeModel, MethodScores, Origin, ReportInputs
from relope.evaluate.numbers.routing import n_escalated
from relope.evaluate.pages.wording import listed
from relope.evaluate.scores import Scores, align
from relope.extract.data.images import decode
from relope.probes.protocol import Traits, method_class
from relope.provenance import digest, versions
from relope.steps.answer_seconds import seconds_of
from relope.steps.evaluation import Evaluation
from relope.steps.joins import free_parts, judged_elsewhere, learned_otherwise, view_of
from relope.steps.pictures import data_images
from relope.steps.query_costs import query_costs
from relope.store import ActivationStore
from relope.store.grades import names_split, rows_of, split_counts
from relope.types import ResultWarning

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 3
"""Of a report: raised when the same scores and grades give other numbers or another page."""

MINIATURE = (
    "The images, the questions and {models} are our own miniature: a 1.6 M-parameter model with 16 image tokens and 6 "
    "blocks. The routing signal is real, but the order of the methods here says nothing about 7–12 B models, and need "
    "not be the paper's. Compare with the controls: a probe that does not beat question-confidence knows no more than "
    "the question and the model's own certainty."
)
ELSEWHERE = (
    "{model} is our own miniature of 1.6 M parameters, which knows nothing but our own small drawings: on other data "
    "these numbers show that everything works, not what a real model would do."
)
HOLDS = "These numbers hold for this model, this data set and these splits."
ONE_SEED = (
    "An interval covers the sampling of test questions, not the randomness of training; fit with several seeds to see "
    "that."
)
EMBEDDED_DATA = "relope.tiny"
"""What the identity of our own benchmark says of its source."""


def caveat_of(evaluation: Evaluation) -> str:
    """Return what the numbers can and cannot show, as it is true of these models, data and seeds."""
    store, large = evaluation.store, evaluation.large
    model, embedded = store.manifest.recorded["model"], _embedded(store)
    data = store.manifest.identity["dataset"]
    if embedded and isinstance(data, dict) and data.get("source") == EMBEDDED_DATA:
        both = large is not None and _embedded(large)
        return MINIATURE.format(models="both models" if both else "the small model")
    trained = [seeds for seeds in evaluation.scored.values() if seeds[0].meta.needs_training]
    parts = [ELSEWHERE.format(model=model)] if embedded else []
    parts += [HOLDS, *([ONE_SEED] if any(len(seeds) == 1 for seeds in trained) else [])]
    return " ".join(parts)


def _embedded(store: ActivationStore) -> bool:
    return str(store.manifest.recorded.get("source", "")).startswith("package:")


def report_inputs(evaluation: Evaluation) -> ReportInputs:
    """Return what the report of an evaluation is made of."""
    recorded, large = evaluation.store.manifest.recorded, evaluation.large
    dataset, prices = _dataset_name(evaluation), evaluation.prices
    return ReportInputs(
        title=f"Routing {recorded['model']} on {dataset}",
        what=_what(evaluation, dataset),
        small_name=recorded["model"],
        large_name=large.manifest.recorded["model"] if large else "",
        dataset=dataset,
        labels=evaluation.labels,
        methods=[_method(evaluation, name) for name in evaluation.scored],
        large_correct=evaluation.large_correct,
        provenance=_provenance(evaluation),
        caveat=caveat_of(evaluation),
        costs=None if prices is None else _costs(evaluation, prices, large),
        images=_images(evaluation.store, evaluation.splits),
        budget=evaluation.budget,
        resamples=evaluation.resamples,
        seed=evaluation.seed,
        warnings=list(_warnings(evaluation)),
        further=_further(evaluation),
        seconds_answers=_seconds(evaluation),
    )


def _seconds(evaluation: Evaluation) -> list[AnswerSeconds]:
    stores = [evaluation.store, evaluation.large, *(large for large, _ in evaluation.further)]
    ids = evaluation.labels["id"]
    return [row for store in stores if store is not None for row in seconds_of(store, ids)]


def _further(evaluation: Evaluation) -> list[LargeModel]:
    """Return the large models beside the first."""
    prices, made = evaluation.prices, []
    for large, right in evaluation.further:
        costs = None if prices is None else _costs(evaluation, prices, large)
        made.append(LargeModel(large.manifest.recorded["model"], right, costs))
    return made


def _warnings(evaluation: Evaluation) -> Iterator[ResultWarning]:
    """Yield what must be said of the scores before their numbers are read; what holds of several is said once."""
    small, further = str(evaluation.store.manifest.recorded["model"]), [large for large, _ in evaluation.further]
    for large in [] if evaluation.large is None else [evaluation.large, *further]:
        yield from judged_elsewhere(large, evaluation.grader, small)
    yield from evaluation.notes
    for name, seeds in evaluation.scored.items():
        yield from _fit_warnings(name, seeds, evaluation.grader)
    unasked = [name for name, seeds in evaluation.scored.items() if any(seed.asked is None for seed in seeds)]
    if unasked:
        text = f"the scores of {listed(unasked)} are an older relope's, which did not keep what was asked"
        yield ResultWarning("unsure", f"{text}: they join by id alone.")
    if rounded := rounded_up(len(evaluation.labels), round(100 * evaluation.budget)):
        yield ResultWarning("note", rounded)
    unknown = [name for name, seeds in evaluation.scored.items() if any(_learned_unknown(evaluation, s) for s in seeds)]
    if unknown:
        text = f"{listed(unknown)} was fitted by an older relope on another store, which did not keep on which samples"
        yield ResultWarning("unsure", f"{text}: nobody knows whether some of them are judged here.")
    unjudged = [
        name
        for name, seeds in evaluation.scored.items()
        if any(seed.meta.needs_training and not seed.meta.grader for seed in seeds)
    ]
    if unjudged:
        text = f"an older relope fitted or scored {listed(unjudged)}"
        yield ResultWarning("note", f"{text}, and did not keep what judged the labels.")


def rounded_up(n: int, percent: int) -> str:
    """Say what a curve and a threshold escalate of few samples, where that is visibly not the same share, else ""."""
    up, down = n_escalated(n, percent), percent * n // 100
    if up == down or round(100 * up / n) == percent:
        return ""
    share = f"{percent} % of {n} samples are {percent * n / 100:g}"
    return (
        f"{share}: the numbers at this budget are of {up} ({100 * up / n:.1f} %), a threshold escalates at most {down}."
    )


def _learned_unknown(evaluation: Evaluation, seed: Scores) -> bool:
    """Return whether nobody knows if a router learned from what is judged: by splits of its own data alone."""
    meta = seed.meta
    elsewhere = meta.fitted_on not in (None, evaluation.store.recipe_id)
    return meta.needs_training and not meta.folds and seed.seen is None and elsewhere and not meta.learned


def _fit_warnings(name: str, seeds: Sequence[Scores], judge: str) -> Iterator[ResultWarning]:
    """Yield where a method's seeds were not fitted alike, or hang on another grader than the one that judges here."""
    if differing := _unlike(seeds):
        text = f"the seeds of {name} were not fitted alike ({', '.join(differing)} differ)"
        yield ResultWarning("wrong", f"{text}: their mean is of no one router.")
    for seed in seeds:
        meta = seed.meta
        yield from learned_otherwise(name, meta.grader, judge)
        if meta.grades_read and meta.grades_read != judge:
            text = f"{name} scored answers as {meta.grades_read} read them and is evaluated on grades by {judge}."
            yield ResultWarning("wrong", text)


def _unlike(seeds: Sequence[Scores]) -> list[str]:
    """Return in which of what decides a router beside its seed the seeds of a method differ, as far as they tell."""
    metas = [seed.meta for seed in seeds if seed.meta.n_train is not None]
    names = {"layer": "layers", "settings": "settings", "grader": "graders", "fit_splits": "splits"}
    return [told for name, told in names.items() if len({repr(getattr(meta, name)) for meta in metas}) > 1]


def _dataset_name(evaluation: Evaluation) -> str:
    """Return the data set with what was done to it."""
    manifest = evaluation.store.manifest
    done = [text for text in (view_of(manifest.identity), "labels frozen" if evaluation.labels_frozen else "") if text]
    name = str(manifest.recorded["dataset"])
    return f"{name} ({', '.join(done)})" if done else name


def _method(evaluation: Evaluation, name: str) -> MethodScores:
    labels, held, seeds = evaluation.labels, evaluation.held, evaluation.scored[name]
    first = seeds[0]
    meta, n, traits = first.meta, len(first.ids), _traits(first)
    notes = [
        meta.note,
        "" if meta.method == name else f"method {meta.method}",
    ]
    scored = len(held) > 0 and set(held["id"].to_list()) <= set(first.ids)
    # A threshold on what a router learned from would promise too much.
    learned = [name for seed in seeds for name in _learned(evaluation, seed)]
    scored = scored and not held["id"].is_in(learned).any()
    seen = labels["id"].is_in(learned)
    return MethodScores(
        name,
        np.stack([align(labels, scores) for scores in seeds]),
        seconds_fit=meta.seconds_fit,
        note="; ".join(note for note in notes if note),
        needs_training=meta.needs_training,
        is_control=meta.is_control,
        seeds=tuple(scores.meta.seed for scores in seeds),
        held=align(held, first) if scored else None,
        seconds_predict_each=None if first.seconds_predict is None else first.seconds_predict / n,
        bytes_read_fit=meta.bytes_read_fit,
        bytes_read_each=None if meta.bytes_read is None else meta.bytes_read / n,
        origin=_origin(seeds),
        decides_before_answer=None if traits is None else not traits.reads_answer,
        needs="" if traits is None else traits.flags,
        seen=labels["split"].filter(seen).unique(maintain_order=True).to_list(),
        n_seen=int(seen.sum()),
    )


def _learned(evaluation: Evaluation, seed: Scores) -> list[str]:
    """Return the samples of the store that the router of some scores learned from, by split where no more is known."""
    if seed.seen is not None:
        return [name for name, seen in zip(seed.ids, seed.seen, strict=True) if seen]
    store, there = evaluation.store, split_counts(evaluation.store)
    splits = [split for split in seed.meta.learned if names_split(split, there)]
    return store.samples[rows_of(store, splits)]["id"].to_list() if splits else []


def _origin(seeds: Sequence[Scores]) -> Origin:
    """Return where a method's scores come from, of its first seed; the command lines are those of every seed."""
    meta = seeds[0].meta
    made = [(seed.meta.fit_command, seed.meta.fit_date) for seed in seeds] + [
        (seed.run.command, seed.run.date) for seed in seeds
    ]
    told = list(dict.fromkeys((command, date) for command, date in made if command))
    return Origin(
        n_train=meta.n_train,
        layer=meta.layer,
        settings=meta.settings,
        grader=meta.grader,
        splits=tuple(meta.fit_splits),
        commands=tuple(command for command, _ in told),
        dates=tuple(date for _, date in told),
    )


def _traits(scores: Scores) -> Traits | None:
    """Return what holds for the method of some scores; None for one that is not installed."""
    name = scores.meta.method
    return method_class(name).traits if name in registry.names("methods") else None


def _costs(evaluation: Evaluation, prices: PriceList, large: ActivationStore | None) -> Costs:
    """Return what each sample costs on the small model and on a large one."""
    scored = evaluation.scored.items()
    methods = {name: (first.meta.method, first.meta.settings) for name, (first, *_) in scored}
    return query_costs(evaluation.store, evaluation.labels, large, prices, methods)


def _what(evaluation: Evaluation, dataset: str) -> str:
    large, n = evaluation.large, len(evaluation.labels)
    hybrid = f", with {large.manifest.recorded['model']}{_other_view(evaluation)} as the large model" if large else ""
    small, splits = evaluation.store.manifest.recorded["model"], ", ".join(evaluation.splits)
    text = f"{small} answered {n:,} questions of {dataset} ({splits} split){hybrid}, judged by {evaluation.grader}."
    folded = evaluation.out_of_fold
    return f"{text} Scored out of fold: {', '.join(folded)}." if folded else text


def _other_view(evaluation: Evaluation) -> str:
    """Say how the large model was shown the samples, where that is otherwise than the small one."""
    if evaluation.large is None:
        return ""
    identities = evaluation.store.manifest.identity, evaluation.large.manifest.identity
    return f" ({view_of(identities[1]) or 'images as they are'})" if free_parts(*identities) else ""


def _provenance(evaluation: Evaluation) -> dict[str, Any]:
    store, large, large_correct = evaluation.store, evaluation.large, evaluation.large_correct
    identity, prices = store.manifest.identity, evaluation.prices
    parts = {
        "recipe_id": store.recipe_id,
        "large_recipe_id": large.recipe_id if large else None,
        "model": store.manifest.recorded["model"],
        "dataset": store.manifest.recorded["dataset"],
        "grader": evaluation.grader,
        "text_only": bool(identity.get("text_only")),
        "perturbation": identity.get("perturbation"),
        "labels_frozen": evaluation.labels_frozen,
        "scores": {name: [seed.meta.fingerprint for seed in seeds] for name, seeds in evaluation.scored.items()},
        "transferred": evaluation.transferred,
        "out_of_fold": evaluation.out_of_fold,
        "costs": None if prices is None else prices.model_dump(),
        "split": list(evaluation.splits),
        "budget": evaluation.budget,
        "bootstrap": evaluation.resamples,
        "seed": evaluation.seed,
    }
    labels = [evaluation.correct.tolist(), None if large_correct is None else large_correct.tolist()]
    if evaluation.further:  # a report on one large model keeps its fingerprint
        parts["further_large"] = {large.recipe_id: large.manifest.recorded["model"] for large, _ in evaluation.further}
        labels += [right.tolist() for _, right in evaluation.further]
    return {
        **parts,
        "fingerprint": digest([parts, labels, VERSION]),
        "routers": {name: [seed.meta.router for seed in seeds] for name, seeds in evaluation.scored.items()},
        "command": evaluation.command,
        "date": now(),
        "versions": versions(),
    }


def _images(store: ActivationStore, splits: Sequence[str]) -> "Callable[[str], Image | None]":
    """Return sample id → its first image as the model saw it: the store's thumbnail, else that of the data set.

    The data set is read only when an image is asked for that the store keeps no thumbnail of. An image that is
    gone or another one by now gives None.
    """
    known = store.samples.select("id", "row", *({"image_digests"} & set(store.samples.columns)))
    rows = {row["id"]: row for row in known.iter_rows(named=True)}

    from_data = data_images(store, splits)

    def image(sample_id: str) -> "Image | None":
        row = rows[sample_id]
        if store.manifest.identity.text_only:
            return None
        content = store.thumbnail(row["row"])
        return from_data(row, 0) if content is None else decode(content)

    return image
