"""The tokens of a prompt as words and image grids, each with its share of a router's attention."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from relope.evaluate.pages.attention import Patches, Word

Tokens = Mapping[str, npt.NDArray[np.int32]]
"""Token column → ``[T]``: ``kind`` (1 for image), ``id``, and maybe rotary positions."""
Weights = npt.NDArray[np.float32]
Decode = Callable[[Sequence[int]], str]
"""Token ids → text."""


def words_of(tokens: Tokens, weights: Weights, decode: Decode | None) -> list[Word]:
    """Return the text's words with the weights ``[T]`` of their tokens; a word begins at white space.

    Without ``decode`` each token is a word and shows its number.
    """
    words: list[Word] = []
    for run in _runs(tokens["kind"] == 0):
        for span, text in _pieces(tokens["id"][run].tolist(), decode):
            indices = run[span].tolist()
            values = [float(weights[index]) for index in indices]
            if words and words[-1].indices[-1] == indices[0] - 1 and _goes_on(words[-1].text, text):
                last = words.pop()
                words.append(Word(last.text + text, last.indices + indices, last.weights + values))
            else:
                words.append(Word(text, indices, values))
    return words


def _pieces(ids: Sequence[int], decode: Decode | None) -> Iterator[tuple[slice, str]]:
    """Yield which tokens spell the next whole letters, and those letters."""
    before, start = "", 0
    for stop in range(1, len(ids) + 1):
        whole = decode(ids[:stop]) if decode else f"{before}⟨{ids[stop - 1]}⟩"
        if whole.endswith("\ufffd") and stop < len(ids):
            continue  # a character that the next token completes
        yield slice(start, stop), whole[len(before) :]
        before, start = whole, stop


def _goes_on(before: str, text: str) -> bool:
    """Return whether a token goes on with the word before it."""
    return bool(text) and text[0].isalnum() and before[-1:].isalnum()


def patches_of(tokens: Tokens, weights: Weights) -> list[Patches]:
    """Return each image's tokens as a grid: from rotary positions where they have rows and columns, else square."""
    grids = []
    for run in _runs(tokens["kind"] == 1):
        side = round(len(run) ** 0.5)
        columns, known = (side, True) if side * side == len(run) else (max(1, side), False)
        if "position_3" in tokens:
            wide, high = (int(np.ptp(tokens[name][run])) + 1 for name in ("position_3", "position_2"))
            if wide * high == len(run):
                columns, known = wide, True
        grids.append(Patches(run.tolist(), weights[run], columns, known))
    return grids


def _runs(chosen: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Return the indices of consecutive true values, one array a run."""
    indices = np.flatnonzero(chosen)
    return [run for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if len(run)]
