"""lm-evaluation-harness: ``samples_<task>_<date>.jsonl``, as ``--log_samples`` writes them.

A line has ``doc`` (the row of the data set), ``resps`` (what the model wrote, a list a request), ``filtered_resps``,
``filter``, ``metrics`` (names) and each metric by its name. Where a task asks for likelihoods (multiple choice) the
answer is the continuation of the highest. The verdict is ``acc``, ``exact_match`` or the one metric that is 0 or 1.
``doc_id`` is a place in the data set and no name: samples are found by an id in ``doc`` or by what they ask. Of several
filters the first one counts. The model's name stands in ``results_<date>.json`` beside the file.

Source: https://github.com/EleutherAI/lm-evaluation-harness lm_eval/evaluator.py (``evaluate``: ``example``) and
lm_eval/loggers/evaluation_tracker.py (``save_results_samples``, ``sanitize_list``), versions 0.4.2 to 0.4.9.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.data.bounded import WHOLE_BYTES, read_bounded
from relope.extract.data.rows import Row
from relope.extract.importing.record import Reading, Record, binary, id_cell, missing, text_cell
from relope.extract.importing.source import Source
from relope.words import counted

NAME = "lm-eval"
NEEDS = "doc_id, doc, arguments, resps and filtered_resps in each line"

_COLUMNS = ("doc_id", "doc", "arguments", "resps", "filtered_resps")
_VERDICTS = ("acc", "exact_match", "relaxed_accuracy", "mmmu_acc")
_IDS = ("id", "question_id", "qid", "sample_id", "uid", "pid", "index")
_CHOICES = ("choices", "options")
_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl$")


def recognises(source: Source) -> bool:
    """Return whether a file has lines of logged samples."""
    return source.suffix == ".jsonl" and {"doc_id", "doc", "resps"} <= set(source.columns)


def read(source: Source) -> Reading:
    """Return the logged samples of a file.

    Raises:
        InvalidInputError: a line is none, or several filters of a sample tell different answers.
    """
    model, records, filters = _model(source.path), [], dict[str, int]()
    for row in source.rows():
        name = str(row.cells.get("filter", "none"))
        filters[name] = filters.get(name, 0) + 1
        if name == next(iter(filters)):
            records.append(_record(row, model))
    others = [f"{name} ({counted(n, 'line')})" for name, n in list(filters.items())[1:]]
    first = next(iter(filters), "")
    notes = (f"verdicts are those of the filter {first}; not read: {', '.join(others)}",) if others else ()
    return Reading(records, notes)


def _model(path: Path) -> str:
    """Return the model that the results beside the samples name, ``""`` where there are none."""
    date = _DATE.search(path.name)
    results = path.with_name(f"results_{date[1]}.json") if date else None
    if results is None or not results.is_file():
        return ""
    try:
        results_json = json.loads(read_bounded(results, WHOLE_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    name = results_json.get("model_name") if isinstance(results_json, dict) else None
    return name if isinstance(name, str) else ""


def _record(row: Row, model: str) -> Record:
    cells, where = row.cells, row.where
    for column in _COLUMNS:
        if column not in cells:
            raise missing(column, where, cells)
    doc = cells["doc"]
    if not isinstance(doc, dict):
        raise InvalidInputError(f"doc in {where} must be an object, not {type(doc).__name__}")
    own = next((name for name in _IDS if isinstance(doc.get(name), (str, int)) and doc.get(name) != ""), "")
    shown, requests = _pictures(doc, cells["arguments"]), _requests(cells["arguments"])
    response, parsed = _answer(cells, requests, where)
    question = doc.get("question")
    return Record(
        where,
        id=id_cell(doc, own, where) if own else id_cell(cells, "doc_id", where),
        numbered=not own or own == "index",
        response=response,
        correct=_verdict(cells, where),
        parsed=parsed,
        question=question if isinstance(question, str) else None,
        choices=_choices(doc),
        pictured=shown,
        model=model,
        failed="" if response is not None else "it has no response",
    )


def _requests(arguments: Any) -> list[list[Any]]:
    """Return the arguments of each request: a list in 0.4.2, ``gen_args_0: {arg_0, …}`` since then."""
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    requests = requests if isinstance(requests, list) else []
    return [
        list(request.values()) if isinstance(request, dict) else request if isinstance(request, list) else [request]
        for request in requests
    ]


def _pictures(doc: Mapping[str, Any], arguments: Any) -> bool:
    """Return whether the sample shows images, which the log does not keep as they were."""
    visual = any(isinstance(part, dict) and "visual" in part for request in _requests(arguments) for part in request)
    return visual or any("image" in str(name).lower() and value not in (None, "", []) for name, value in doc.items())


def _choices(doc: Mapping[str, Any]) -> tuple[str, ...] | None:
    options = next((doc[name] for name in _CHOICES if name in doc), None)
    if isinstance(options, dict):  # ARC: {"text": […], "label": […]}
        options = options.get("text")
    if not isinstance(options, list) or not all(isinstance(item, (str, int, float)) for item in options):
        return None
    return tuple(str(text_cell({"choices": item}, "choices", "doc") or "") for item in options)


def _answer(cells: Mapping[str, Any], requests: Sequence[Sequence[Any]], where: str) -> tuple[str | None, str]:
    """Return what the model wrote and what a filter made of it, or the likeliest continuation."""
    resps, filtered = cells["resps"], cells["filtered_resps"]
    if not isinstance(resps, list) or not isinstance(filtered, list):
        raise InvalidInputError(f"resps and filtered_resps in {where} must be lists")
    scores = [_likelihood(continuation) for continuation in filtered]
    if len(filtered) > 1 or (filtered and scores[0] is not None):
        return _likeliest(scores, requests, where), ""
    written = _first_text(resps)
    return written, _first_text(filtered) or "" if written is not None else ""


def _likeliest(scores: Sequence[float | None], requests: Sequence[Sequence[Any]], where: str) -> str:
    likelihoods = [score for score in scores if score is not None]
    texts = [request[1] for request in requests if len(request) > 1 and isinstance(request[1], str)]
    if len(likelihoods) != len(scores) or len(texts) != len(scores):
        raise InvalidInputError(
            f"{where} has {counted(len(scores), 'response')}, of which {len(likelihoods)} are likelihoods, and "
            f"{counted(len(texts), 'continuation')}: its answer cannot be told"
        )
    return texts[max(range(len(likelihoods)), key=likelihoods.__getitem__)].strip()


def _likelihood(value: Any) -> float | None:
    """Return the log-likelihood of ``[number, is greedy]``, which the log writes as texts; None where it is none."""
    if not (isinstance(value, list) and len(value) == 2 and str(value[1]) in ("True", "False")):
        return None
    try:
        number = float(value[0])
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _first_text(value: Any) -> str | None:
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def _verdict(cells: Mapping[str, Any], where: str) -> bool | None:
    """Return the verdict of the metric that is one."""
    names = cells.get("metrics")
    metrics = [name for name in names if isinstance(name, str)] if isinstance(names, list) else list(_VERDICTS)
    verdicts = {name: verdict for name in metrics if (verdict := binary(cells.get(name))) is not None}
    ours = [name for name in _VERDICTS if name in verdicts]
    if ours:
        return verdicts[ours[0]]
    return next(iter(verdicts.values())) if len(verdicts) == 1 else None
