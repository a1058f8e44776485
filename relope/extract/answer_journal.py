"""Answers on the disk as soon as they are there, beside a store, until they are sealed into its parts.

One line an answer, written before the next question is asked: a run that is killed asks nobody again whose
answer it has got. A last line that was cut off is none. What requests have cost that left no answer stays for good:
it counts against every later cap in dollars.
"""

import fcntl
import json
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from relope.errors import InvalidInputError, OutputError, RelopeError
from relope.extract.allowance import Bill
from relope.provenance import cannot_write, write_bytes
from relope.seals import read_plain
from relope.types import Answer, Usage

_ANSWER, _USAGE = TypeAdapter(Answer), TypeAdapter(Usage)
_LIMIT_BYTES = 4 << 30


def journal_path(store: Path) -> Path:
    """Return where the answers wait that are in no part yet."""
    return store.with_name(f"{store.name}.answers.jsonl")


@dataclass(frozen=True)
class Submitted:
    """A batch that was sent.

    Attributes:
        asked: id of each question, and digest of what was asked, in the order of its input file.
        name: what the provider calls it; ``""`` while that is not known.
    """

    asked: tuple[tuple[str, str], ...]
    name: str = ""


class AnswerJournal:
    """The answers of a run that are in no part yet; several threads may add to it.

    Attributes:
        path: of the file.
        answers: id → digest of what was asked, and the answer.
        refused: id → digest of what was asked, and why the server answers it not.
        batches: input file → the batch of it that is still waited for.
        bills: of requests that left no answer that is kept.
    """

    def __init__(self, path: Path, recipe_id: str) -> None:
        """Open the file, and read what a run left that was killed.

        Args:
            path: of the file.
            recipe_id: of the store; answers of another recipe are none of its own.

        Raises:
            InvalidInputError: the file is of another recipe, or is damaged.
            OutputError: it cannot be written.
        """
        self.path, self._lock = path, threading.Lock()
        self.answers: dict[str, tuple[str, Answer]] = {}
        self.refused: dict[str, tuple[str, str]] = {}
        self.batches: dict[str, Submitted] = {}
        self.bills: list[Bill] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "xb")
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                raise BlockingIOError("the run that had it put another file in its place a moment ago")
        except (BlockingIOError, FileNotFoundError) as error:
            self._file.close()
            raise OutputError(f"another run is adding to {path}", hint="wait for it, or end it") from error
        try:
            whole = self._read(recipe_id)
        except RelopeError:
            self._file.close()
            raise
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write({"recipe": recipe_id})
        self._is_empty = not (self.answers or self.refused or self.batches or self.bills)

    def _read(self, recipe_id: str) -> int:
        """Take up every whole line; return their bytes."""
        content = read_plain(self.path, _LIMIT_BYTES)
        whole = content.rpartition(b"\n")[0]
        lines = whole.split(b"\n") if whole else []
        if lines[1:] and all(line.startswith(_BILL) for line in lines[1:]) and not _is_of(lines[0], recipe_id):
            return 0  # of a store that never came to be
        for number, line in enumerate(lines, 1):
            try:
                self._take_up(json.loads(line), number, recipe_id)
            except (ValueError, LookupError, TypeError, ValidationError) as error:
                raise InvalidInputError(
                    f"line {number} of {self.path} is no answer of this recipe: {str(error).splitlines()[0]}",
                    hint="it holds what a server has answered: move it away, or mend it",
                ) from error
        return len(whole) + 1 if whole else 0

    def _take_up(self, entry: Mapping[str, Any], number: int, recipe_id: str) -> None:
        if number == 1:
            if entry["recipe"] != recipe_id:
                raise ValueError(f"it is of the recipe {str(entry['recipe'])[:12]}, not {recipe_id[:12]}")
        elif "file" in entry:
            self._take_up_batch(entry)
        elif "bill" in entry:
            self.bills.append(Bill(_USAGE.validate_python(entry["bill"]), bool(entry["certain"])))
        elif "refused" in entry:
            self.refused[str(entry["id"])] = str(entry["input"]), str(entry["refused"])
        else:
            self.answers[str(entry["id"])] = str(entry["input"]), _ANSWER.validate_python(entry["answer"])

    def _take_up_batch(self, entry: Mapping[str, Any]) -> None:
        file = str(entry["file"])
        if "asked" in entry:
            self.batches[file] = Submitted(tuple((str(name), str(digest)) for name, digest in entry["asked"]))
        elif "batch" in entry:
            self.batches[file] = replace(self.batches[file], name=str(entry["batch"]))
        else:
            self.batches.pop(file, None)

    def submit(self, file: str, asked: Sequence[tuple[str, str]]) -> None:
        """Keep which questions an input file asks, before its batch begins.

        Args:
            file: its id at the provider.
            asked: id and digest of what was asked of each, in its order.
        """
        self._note_batch({"file": file, "asked": [list(each) for each in asked]})

    def begun(self, file: str, batch: str) -> None:
        """Keep what the batch of an input file is called."""
        self._note_batch({"file": file, "batch": batch})

    def over(self, file: str) -> None:
        """Keep that nothing more will come of an input file."""
        self._note_batch({"file": file, "over": True})

    def _note_batch(self, entry: Mapping[str, Any]) -> None:
        self._write(entry)
        self.sync()
        self._take_up_batch(entry)

    def add(self, sample: str, asked: str, answer: Answer) -> None:
        """Keep an answer.

        Args:
            sample: its id.
            asked: digest of what was asked.
            answer: to it.

        Raises:
            OutputError: the disk is full.
        """
        said = {
            **vars(answer),
            "usage": vars(answer.usage),
        }  # `asdict` copies every number, which takes five times as long
        lines = [{"id": sample, "input": asked, "answer": said}]
        was_asked, earlier = self.answers.pop(sample, ("", None))
        if earlier is not None and was_asked != asked:  # of a sample that was something else then
            bill = Bill(earlier.usage, certain=True)
            self.bills.append(bill)
            lines.insert(0, _bill_line(bill))
        self._write(*lines)

    def refuse(self, sample: str, asked: str, reason: str) -> None:
        """Keep that a content filter refuses a question, so that it is not asked again when the run goes on."""
        self._write({"id": sample, "input": asked, "refused": reason})

    def bill(self, bill: Bill) -> None:
        """Keep what a request has cost, or may have, that left no answer."""
        self._write(_bill_line(bill))
        self.bills.append(bill)

    def _write(self, *entries: Mapping[str, Any]) -> None:
        line = b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in entries)
        self._is_empty = False
        try:
            with self._lock:
                self._file.write(line)
                self._file.flush()  # with the system from here on, whatever becomes of this process
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Wait until what was added is on the disk, for the day of a power cut."""
        os.fsync(self._file.fileno())

    def close(self, sealed: Collection[str] | None = None) -> None:
        """Close the file; what is sealed goes from it, and the file itself where nothing else is in it.

        Args:
            sealed: ids of the samples whose answers are in parts, after a run that came to its end: what was refused
                goes then too, and may be asked again. None keeps everything, for the run that goes on from here.

        Raises:
            OutputError: the disk is full; then everything stays.
        """
        try:
            if sealed is not None and not self._is_empty:
                self._drop(sealed)
            if self._is_empty:
                self.path.unlink(missing_ok=True)
        finally:
            self._file.close()  # here, since with it goes the lock

    def _drop(self, sealed: Collection[str]) -> None:
        """Keep the lines alone of answers that are in no part, such as those of another split, and of bills."""
        first, *lines = read_plain(self.path, _LIMIT_BYTES).splitlines(keepends=True)
        entries = ((line, json.loads(line)) for line in lines)
        kept = [line for line, entry in entries if "bill" in entry or ("answer" in entry and entry["id"] not in sealed)]
        self._is_empty = not kept
        if kept:
            write_bytes(self.path, b"".join([first, *kept]))


_BILL = b'{"bill": '


def _bill_line(bill: Bill) -> dict[str, Any]:
    return {"bill": vars(bill.usage), "certain": bill.certain}


def _is_of(line: bytes, recipe_id: str) -> bool:
    try:
        return bool(json.loads(line)["recipe"] == recipe_id)
    except (ValueError, LookupError, TypeError):
        return True  # whoever reads it says what is wrong
