"""inspect_ai: evaluation logs, ``.eval`` (a zip) or ``.json``, of log version 2.

A sample has ``id``, ``epoch``, ``input`` (text, or messages whose content may hold images), ``choices``, ``target``,
``output``, ``scores`` and ``error``. A score of ``C`` or 1 is right, ``I``, ``N`` or 0 wrong, ``P`` or a share is no
verdict; of several scorers the first one counts. Of several epochs the first one counts. A sample with an error, or
that was stopped by a limit before it had an output, is no answer. Whole numbers as ids may be places in a file, which
inspect_ai gives where a data set has none.

Source: https://github.com/UKGovernmentBEIS/inspect_ai src/inspect_ai/log/_log.py (``EvalSample``),
src/inspect_ai/log/_recorders/eval.py (``START_JSON``, ``SAMPLES_DIR``) and
tests/log/test_eval_log (log_images.json, log_read_sample.json).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.importing.record import Reading, Record, binary, count_cell, id_cell, missing, number_cell
from relope.extract.importing.source import Source, mapping_in, parsed
from relope.extract.importing.zips import entry_bytes, opened_zip
from relope.types import Usage
from relope.words import counted

NAME = "inspect"
NEEDS = "a log of version 2 with its samples"

_VERSION = 2
_HEADERS = ("header.json", "_journal/start.json", "start.json")
_SAMPLES = "samples/"
_ATTACHED = "attachment://"
_VALUES = {"C": True, "I": False, "N": False}


def recognises(source: Source) -> bool:
    """Return whether a file is a log."""
    return source.suffix == ".eval" or (source.suffix == ".json" and {"version", "eval"} <= set(source.columns))


def read(source: Source) -> Reading:
    """Return the samples of a log.

    Raises:
        InvalidInputError: it is of another version, damaged, or was written without samples.
    """
    if source.suffix == ".eval":
        return _read_zip(source)
    log = source.json
    if not isinstance(log, dict):
        raise InvalidInputError(f"{source.path} holds {type(log).__name__} and no log")
    samples = log.get("samples")
    if not isinstance(samples, list) or not samples:
        raise InvalidInputError(f"{source.path} has no samples: it is a header, or the log was written without them")
    named = ((f"sample {number} of {source.path.name}", sample) for number, sample in enumerate(samples, 1))
    return _reading(source, log, named)


def _read_zip(source: Source) -> Reading:
    with opened_zip(source.path) as archive:
        names = archive.namelist()
        header = next((name for name in _HEADERS if name in names), "")
        if not header:
            raise InvalidInputError(f"{source.path} is no log: it has none of {', '.join(_HEADERS)}")
        if twice := len(names) - len(set(names)):
            raise InvalidInputError(f"{source.path} has {counted(twice, 'entry', 'entries')} twice")
        where = source.path.name
        log = parsed(entry_bytes(archive, header, where), f"{header} in {where}")
        files = sorted(name for name in names if name.startswith(_SAMPLES) and name.endswith(".json"))
        if not files:
            raise InvalidInputError(f"{source.path} has no samples: it was written without them, or has just begun")
        named = ((f"{name} in {where}", parsed(entry_bytes(archive, name, where), name)) for name in files)
        return _reading(source, log, named)


def _reading(source: Source, log: Any, samples: Iterator[tuple[str, Any]]) -> Reading:
    if not isinstance(log, dict) or log.get("version") != _VERSION:
        version = log.get("version") if isinstance(log, dict) else None
        raise InvalidInputError(f"{source.path} is a log of version {version!s:.40}; version {_VERSION} is read")
    model = mapping_in(log, "eval").get("model")
    records, later, scorers = [], 0, dict[str, None]()
    for where, sample in samples:
        if not isinstance(sample, dict):
            raise InvalidInputError(f"{where} must be an object, not {type(sample).__name__}")
        if sample.get("epoch", 1) != 1:
            later += 1
            continue
        scorers.update(dict.fromkeys(mapping_in(sample, "scores")))
        records.append(_record(where, sample, model if isinstance(model, str) else "", next(iter(scorers), "")))
    notes = [f"{counted(later, 'answer')} of later epochs than the first not read"] if later else []
    if len(scorers) > 1:
        first, *others = scorers
        notes.append(f"verdicts are those of the scorer {first}; not read: {', '.join(others)}")
    if log.get("status") not in (None, "success"):
        notes.append(f"the log's status is {log['status']!s:.40}")
    return Reading(records, tuple(notes))


def _record(where: str, sample: Mapping[str, Any], model: str, scorer: str) -> Record:
    for key in ("id", "input", "output"):
        if key not in sample:
            raise missing(key, where, sample)
    question, images, pictured = _asked(sample, where)
    response, stopped = _answer(mapping_in(sample, "output"))
    score = mapping_in(mapping_in(sample, "scores"), scorer)
    answer = score.get("answer")
    choices = sample.get("choices")
    told = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    return Record(
        where,
        id=id_cell(sample, "id", where),
        numbered=isinstance(sample["id"], int),
        response=response,
        correct=_verdict(score.get("value")),
        parsed=answer if isinstance(answer, str) else "",
        question=question,
        choices=tuple(choices) if told and choices else None,
        images=images,
        pictured=pictured,
        model=model,
        usage=_usage(sample, where),
        finish_reason=stopped,
        failed=_failure(sample, response, stopped),
    )


def _failure(sample: Mapping[str, Any], response: str | None, stopped: str) -> str:
    """Return why a sample has no answer, ``""`` where it has one."""
    error = sample.get("error")
    if error is not None:
        message = error.get("message") if isinstance(error, dict) else error
        return str(message or "error")[:200]
    refused = mapping_in(sample, "output").get("error")
    if refused:
        return str(refused)[:200]
    if stopped == "content_filter":
        return "refused by a content filter"
    return "" if response is not None else f"no output{' (stopped by a limit)' if sample.get('limit') else ''}"


def _answer(output: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the text of the first choice, None where there is none, and why it ended."""
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None, ""
    reason = choices[0].get("stop_reason")
    reasons = {"stop": "stop", "max_tokens": "length", "model_length": "length", "content_filter": "content_filter"}
    text = _text(mapping_in(choices[0], "message").get("content"))
    return text, reasons.get(str(reason), "")


def _text(content: Any) -> str | None:
    """Return the text of a message's content: text, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def _asked(sample: Mapping[str, Any], where: str) -> tuple[str | None, tuple[str, ...] | None, bool]:
    """Return the question, the digests of its images (None where they are not told), and whether it has any.

    Of a conversation the question is not told: several turns ask more than the last one says.
    """
    asked, attached = sample["input"], mapping_in(sample, "attachments")
    if isinstance(asked, str):
        return _resolved(asked, attached), (), False
    if not isinstance(asked, list) or not all(isinstance(message, dict) for message in asked):
        raise InvalidInputError(f"input in {where} must be text or messages, not {type(asked).__name__}")
    parts = [part for message in asked for part in _parts(message)]
    pictures = [part.get("image") for part in parts if part.get("type") == "image"]
    digests = [_digest(_resolved(picture, attached)) for picture in pictures]
    whole = [digest for digest in digests if digest is not None]
    images = tuple(whole) if len(whole) == len(digests) else None
    if len(asked) != 1 or asked[0].get("role") != "user":
        return None, images, bool(pictures)
    text = _text(asked[0].get("content"))
    return None if text is None else _resolved(text, attached), images, bool(pictures)


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _resolved(value: Any, attached: Mapping[str, Any]) -> str | None:
    """Return a text, or the attachment that it refers to."""
    if not isinstance(value, str):
        return None
    if not value.startswith(_ATTACHED):
        return value
    held = attached.get(value.removeprefix(_ATTACHED))
    return held if isinstance(held, str) else None


def _digest(picture: str | None) -> str | None:
    """Return the sha256 (hex) of an image's encoded bytes; None where they are not in the log."""
    head, comma, body = (picture or "").partition(",")
    if not (head.startswith("data:") and head.endswith(";base64") and comma):
        return None
    try:
        return hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest()
    except (ValueError, binascii.Error):
        return None


def _verdict(value: Any) -> bool | None:
    return _VALUES.get(value) if isinstance(value, str) else binary(value)


def _usage(sample: Mapping[str, Any], where: str) -> Usage:
    """Return what the answer took: tokens of the prompt are all but those of the output, cached ones included."""
    output = mapping_in(sample, "output")
    usage = mapping_in(output, "usage")
    written = count_cell(usage, "output_tokens", where)
    total, read_ = count_cell(usage, "total_tokens", where), count_cell(usage, "input_tokens", where)
    prompt = read_ if total is None or written is None else max(total - written, read_ or 0)
    cached = count_cell(usage, "input_tokens_cache_read", where)
    cost = number_cell(usage, "total_cost", where)
    return Usage(prompt, written, cached, number_cell(output, "time", where), cost)
