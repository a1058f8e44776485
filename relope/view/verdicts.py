"""What holds of each answer now: the grader's grade, or what a person has said of it."""

import threading
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Ints
from relope.view.board import RIGHT, UNKNOWN, WRONG, Answers, Board

Side = Literal["small", "large"]
Save = Callable[[Side, str, bool | None], None]
"""Keeps what a person says of one sample's answer: whose, its id, the verdict (None takes it back)."""


class Verdicts:
    """The grades of both models' answers; a correction is kept before it is shown.

    Args:
        board: what is looked at.
        given: model's side → id → what people have said before.
        save: keeps a correction.
    """

    def __init__(self, board: Board, given: Mapping[Side, Mapping[str, bool | None]], save: Save) -> None:
        self._board, self._save, self._lock = board, save, threading.Lock()
        self._graded: dict[Side, Ints] = {"small": board.small.graded}
        if board.large is not None:
            self._graded["large"] = board.large.graded
        self.right = {side: graded.copy() for side, graded in self._graded.items()}
        self.by_hand: dict[Side, Bools] = {side: np.zeros(len(board), bool) for side in self._graded}
        for side, said in given.items():
            for name, correct in said.items():
                if name in board.number_of:
                    self._note(side, board.number_of[name], correct)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose answers are there."""
        return tuple(self._graded)

    def answers(self, side: Side) -> Answers:
        """Return a model's answers."""
        return self._board.large if side == "large" and self._board.large is not None else self._board.small

    def say(self, side: Side, number: int, correct: bool | None) -> None:
        """Keep what a person says of an answer, then show it.

        Raises:
            RelopeError: it could not be kept.
        """
        with self._lock:
            self._save(side, self._board.samples["id"][number], correct)
            self._note(side, number, correct)

    def _note(self, side: Side, number: int, correct: bool | None) -> None:
        said = {True: RIGHT, False: WRONG, None: int(self._graded[side][number])}[correct]
        self.right[side][number] = said
        self.by_hand[side][number] = correct is not None

    def known(self, side: Side) -> Bools:
        """Return ``[N]`` of which answers anybody knows whether they are right."""
        return np.asarray(self.right[side] != UNKNOWN)
