"""What a server's log says of live requests: their scores, and which of the small model's answers were right."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from relope.errors import InvalidInputError, NotFoundError, OutputError, StoreError
from relope.evaluate.numbers.metrics import Bools, Floats, Groups

_READ = ("request_id", "route", "decided", "threshold", "ended")
"""Fields of a decision without which its score says nothing."""

_A_LOG = "give what relope serve --log has written; a last line that was cut off may be removed"


@dataclass(frozen=True)
class Live:
    """Live requests that the router has scored.

    Attributes:
        scores: ``[N]``.
        groups: ``[N]`` conversations, whose requests are not independent. One that opens a conversation and names
            none is a group of its own (logs of earlier versions name it after its words, as its later turns are).
        judged: ``[N]`` whether the outcome of the small model's answer is known.
        right: ``[N]`` whether it is right; False where not judged.
        from_score: scores below it were escalated, so nothing is known of the small model's answers there; -inf where
            the small model answered everything.
        others: requests in the log that another bundle decided.
    """

    scores: Floats
    groups: Groups
    judged: Bools
    right: Bools
    from_score: float
    others: int

    @property
    def known(self) -> Bools:
        """``[N]`` requests whose outcomes stand for all at their scores."""
        return self.judged & (self.scores >= self.from_score)


def read_live(log: Path, feedback: Path | None, bundle_id: str) -> Live:
    """Read a log, and outcomes in it or beside it.

    Args:
        log: a file of JSON Lines, or a folder of Parquet parts.
        feedback: JSON Lines of ``request_id`` and ``correct``; the log's own are read anyhow, those here count.
        bundle_id: of the decisions that are taken.

    Raises:
        NotFoundError: there is no log or no such file.
        StoreError: a line is none of a log.
        InvalidInputError: no request in it was scored by this bundle.
    """
    decisions, outcomes, others = dict[str, Mapping[str, Any]](), dict[str, bool](), 0
    for line in _lines(log):
        if line.get("kind") == "feedback":
            outcomes[str(line.get("request_id"))] = bool(line.get("correct"))
        elif line.get("kind") == "decision" and isinstance(line.get("score"), float):
            if lacking := [field for field in _READ if field not in line]:
                raise StoreError(f"{log} has a decision without {lacking[0]}")
            if line.get("bundle") == bundle_id:
                decisions[str(line["request_id"])] = line
            else:
                others += 1
    for line in _lines(feedback) if feedback is not None else ():
        if not isinstance(line.get("request_id"), str) or not isinstance(line.get("correct"), bool):
            raise StoreError(f"{feedback} has a line without request_id (text) and correct (true or false)")
        outcomes[line["request_id"]] = line["correct"]
    if not decisions:
        raise InvalidInputError(
            f"{log} has no request that bundle {bundle_id} scored ({others:,} by others)",
            hint="give the --bundle that was served while it was written",
        )
    return _live(decisions, outcomes, others)


def _live(decisions: Mapping[str, Mapping[str, Any]], outcomes: Mapping[str, bool], others: int) -> Live:
    lines = list(decisions.values())
    small = [line["route"] == "small" and line["ended"] == "done" for line in lines]
    has_outcome = [line["request_id"] in outcomes for line in lines]
    judged = np.array(small) & np.array(has_outcome)
    escalated = [line["threshold"] for line in lines if line["decided"] == "large" and line["route"] != "small"]
    return Live(
        scores=np.array([line["score"] for line in lines], np.float64),
        groups=np.array([line.get("session") or line["request_id"] for line in lines], np.str_),
        judged=judged,
        right=judged & np.array([outcomes.get(line["request_id"], False) for line in lines]),
        from_score=max(escalated, default=float("-inf")),
        others=others,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file or a folder."""
    if path.is_dir():
        for part in sorted(path.glob("*.parquet")):
            try:
                yield from pl.read_parquet(part).iter_rows(named=True)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise StoreError(f"{part} is no readable Parquet", hint=_A_LOG) from error
        return
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {path}", hint="relope serve --log FILE writes a log of decisions") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is no log: it is no UTF-8 text", hint=_A_LOG) from error
    for number, each in enumerate(io.StringIO(text), 1):  # not splitlines: it cuts at U+2028 within a text, too
        try:
            value = json.loads(each)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"line {number} of {path} is no JSON", hint=_A_LOG) from error
        if not isinstance(value, dict):
            raise StoreError(f"line {number} of {path} is no JSON object", hint=_A_LOG)
        yield value
