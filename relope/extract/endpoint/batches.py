"""The provider's batch interface: questions uploaded as one file, answered within a day, fetched as another.

Layouts: OpenAI's ``/v1/files`` and ``/v1/batches`` (github.com/openai/openai-python, ``types/batch.py``); one line of
the input is ``{"custom_id", "method", "url", "body"}``, one of the output ``{"custom_id", "response", "error"}``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relope.errors import OutputError
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.client import (
    KEPT,
    REFUSED,
    Filtered,
    Manners,
    Question,
    Refused,
    body_of,
    is_filtered,
    patiently,
    withheld_error,
)
from relope.extract.endpoint.reading import answer_of
from relope.redact import redacted
from relope.types import Answer

COMPLETIONS: Final = "/v1/chat/completions"
ENDED = ("completed", "expired", "cancelled", "failed")
_LISTED = 100
_SHOWN = 200


@dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes:
        status: the provider's word.
        done: questions that are answered.
        files: of answers and of errors, as far as there are some.
        reason: why it failed, or ``""``.
    """

    status: str
    done: int
    files: tuple[str, ...]
    reason: str

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more will come."""
        return self.status in ENDED


def line_of(endpoint: Endpoint, name: str, question: Question, manners: Manners) -> bytes:
    """Return the line of a question in an input file."""
    body = body_of(endpoint, question, manners)
    return json.dumps({"custom_id": name, "method": "POST", "url": COMPLETIONS, "body": body}).encode() + b"\n"


def upload(endpoint: Endpoint, path: Path, manners: Manners) -> str:
    """Return the id of an input file that was uploaded.

    Raises:
        OutputError: the server refuses, cannot be reached, or has no batch interface.
    """
    files = endpoint.client.files
    return patiently(
        endpoint, manners, lambda: files.create(file=path, purpose="batch", extra_headers=endpoint.headers).id
    )


def begin(endpoint: Endpoint, file: str, manners: Manners) -> str:
    """Return the id of the batch of an input file; there is one, whoever begins it and however often."""
    batches, headers = endpoint.client.batches, endpoint.headers

    def find_or_create() -> str:
        for batch in batches.list(limit=_LISTED, extra_headers=headers).data:
            if batch.input_file_id == file:
                return batch.id
        return batches.create(
            input_file_id=file, endpoint=COMPLETIONS, completion_window="24h", extra_headers=headers
        ).id

    return patiently(endpoint, manners, find_or_create)


def progress_of(endpoint: Endpoint, batch: str, manners: Manners) -> Progress:
    """Return how far a batch is."""
    told = patiently(endpoint, manners, lambda: endpoint.client.batches.retrieve(batch, extra_headers=endpoint.headers))
    counts, faults = told.request_counts, (told.errors.data if told.errors else None) or []
    reason = "; ".join(str(fault.message) for fault in faults)
    files = tuple(file for file in (told.output_file_id, told.error_file_id) if file)
    return Progress(str(told.status), counts.completed if counts else 0, files, redacted(reason)[:_SHOWN])


def fetch(endpoint: Endpoint, file: str, path: Path, manners: Manners) -> None:
    """Write an output file to the disk."""

    def stream() -> None:
        files = endpoint.client.files.with_streaming_response
        with files.content(file, extra_headers=endpoint.headers) as response:
            response.stream_to_file(path)

    patiently(endpoint, manners, stream)


def answers_in(endpoint: Endpoint, path: Path) -> Iterator[tuple[str, Answer | OutputError]]:
    """Yield the name of each question in an output file, and its answer or why it has none.

    What is neither answered nor refused, e.g. since the day was over, is an error that is no `Refused`.

    Raises:
        OutputError: the file is none of a batch.
    """
    with path.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                name, outcome = str(entry["custom_id"]), _outcome(endpoint, entry)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                start = redacted(line[:_SHOWN].decode("utf-8", "replace"))
                raise OutputError(f"{endpoint.url} sent no line of a batch: {start!r}", hint=KEPT) from error
            yield name, outcome


def _outcome(endpoint: Endpoint, entry: dict[str, Any]) -> Answer | OutputError:
    response = entry.get("response") or {}
    status, body = response.get("status_code"), response.get("body")
    if status == 200:
        answer = answer_of(body, None)
        return withheld_error(endpoint, answer) or answer
    told = json.dumps(entry.get("error") or body)
    reason = f"{endpoint.url} answered {status or 'nothing'}: {redacted(told)[:_SHOWN]}"
    if is_filtered(told):
        return Filtered(reason)
    return Refused(reason) if status in REFUSED else OutputError(reason)
