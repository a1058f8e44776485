"""Training batches of the tiny MLLM, each a pure function of the seed and the step.

One image (or caption) is the prefix of a row; several questions about it follow as *tails*
that see the prefix and themselves but not each other. The image is thus encoded once for
all its questions. Every prompt template that a routing method uses occurs among the tails.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from tiny_model import END, GRID, IMAGE, MERGED, SEE, SEEN, START, vocabulary
from torch import Tensor
from torch.utils.data import Dataset

from relope.extract.data import prompts
from relope.tiny.scenes.draw import FAMILIES, Scene, draw_scene
from relope.tiny.scenes.vocabulary import QUESTIONS

ATTRIBUTES = {
    "shapes-color": 8,
    "shapes-shape": 6,
    "shapes-where": 4,
    "count-number": 6,
    "count-color": 8,
    "digits-digit": 10,
    "bars-tallest": 8,
    "bars-shortest": 8,
    "bars-level": 3,
    "bars-number": 3,
    "clock-hour": 12,
}
"""Attribute → number of classes, for the auxiliary heads."""

STRENGTHS = {"shapes": 1.2, "count": 1.2, "digits": 1.1, "bars": 1.5, "clock": 1.1}
"""The shift that tiny-vl-large is trained on: chosen before the benchmark's was set."""

LENGTH = 60
PREFIX = MERGED + 4
WORD = vocabulary()
ANSWERS = sorted({answer for _, answers in QUESTIONS.values() for answer in answers})
ANSWER_TURN = (END, START, WORD["assistant"])


class Mix(NamedTuple):
    """Shares of what a batch is made of."""

    captions: float = 0.2
    multiple_choice: float = 0.2
    direct: float = 0.04
    chain: float = 0.06
    verdict: float = 0.12
    shifted: float = 0.0


@dataclass
class Batch:
    """One step's data. R rows, T tokens, S supervised places."""

    pixels: Tensor  # [R, 64, 64, 3] uint8
    attributes: Tensor  # [R, len(ATTRIBUTES)] int64, -100 = not asked
    seen: Tensor  # [R] bool, False = the caption stands in for the image
    ids: Tensor  # [R, T] int64
    positions: Tensor  # [3, R, T] int64
    mask: Tensor  # [R, 1, T, T] float32, additive
    row: Tensor  # [S] int64
    place: Tensor  # [S] int64, the token whose successor is predicted
    target: Tensor  # [S] int64
    weight: Tensor  # [S] float32
    skill: Tensor  # [S] int64, index into SKILLS


SKILLS = ("other", "answer", "verdict")
"""What a supervised token shows; every question has exactly one ``answer`` or ``verdict``."""

Said = tuple[int, float, str]
"""Token, weight of its prediction, skill."""


class Tail(NamedTuple):
    """Tokens of one question: what is given, then what the model shall say."""

    given: list[int]
    said: list[Said]

    @property
    def ids(self) -> list[int]:
        return [*self.given, *(token for token, _, _ in self.said)]


def encode(text: str) -> list[int]:
    """Return the ids of words; the fixed sentences are written as ids by their callers."""
    return [WORD[word] for word in text.split()]


def question_tail(kind: str, answer: str, mix: Mix, rng: random.Random, trace: Sequence[str]) -> Tail:
    """Build one question in one of the prompt styles, with its answer.

    A multiple-choice question is answered with the option's text, from which the grader finds the
    letter: this model does not learn to look letters up within the time that it is given.
    """
    text, options = QUESTIONS[kind]
    given = encode(text)
    wrong = rng.choice([option for option in options if option != answer])
    if rng.random() < mix.multiple_choice:
        shown = rng.sample([o for o in options if o not in (answer, wrong)], min(4, len(options)) - 2)
        shown = [*shown[: rng.randint(0, 2)], answer, wrong]
        rng.shuffle(shown)
        listed = [WORD[w] for letter, option in zip("ABCD", shown, strict=False) for w in (f"{letter}.", option)]
        given = [WORD["Question:"], *given, WORD["Options:"], *listed, WORD[prompts.SELECT]]
    given += ANSWER_TURN
    said, end = (WORD[answer], 1.0, "answer"), (END, 0.1, "other")
    style = rng.random()
    if style < mix.direct:
        return Tail([*given, WORD[prompts.DIRECT]], [said, end])
    if style < mix.direct + mix.chain:
        steps: list[Said] = [(WORD[word], 0.2, "other") for word in trace]
        return Tail([*given, WORD[prompts.CHAIN_OF_THOUGHT]], [*steps, (WORD[prompts.DIRECT], 0.1, "other"), said, end])
    if style < mix.direct + mix.chain + mix.verdict:
        right = rng.random() < 0.5
        follow_up = [END, START, WORD["user"], WORD[prompts.TRUE_OR_FALSE], *ANSWER_TURN]
        return Tail([*given, WORD[answer if right else wrong], *follow_up], [(WORD[str(right)], 1.0, "verdict"), end])
    return Tail(given, [said, end])


class _Row:
    """One row under construction: prefix first, then tails while they fit."""

    def __init__(self, scene: Scene, sees: bool) -> None:
        self.ids = np.zeros(LENGTH, np.int64)
        self.segment = np.full(LENGTH, -1)
        self.positions = np.zeros((3, LENGTH), np.int64)
        self.supervised: list[tuple[int, int, float, int]] = []
        self.segments = 0
        if sees:
            prefix = [START, WORD["user"], SEE, *[IMAGE] * MERGED, SEEN]
            self.next = 4 + GRID
        else:
            prefix = [START, WORD["user"], *(WORD[word] for word in scene.facts.caption), WORD["."]]
            self.next = len(prefix)
        self.length = len(prefix)
        self.ids[: self.length], self.segment[: self.length] = prefix, 0
        self.positions[:, : self.length] = np.arange(self.length)
        if sees:
            grid = np.arange(MERGED)
            self.positions[:, 3 : 3 + MERGED] = 3 + np.stack([grid * 0, grid // GRID, grid % GRID])
            self.positions[:, 3 + MERGED] = 3 + GRID

    def add(self, tail: Tail) -> bool:
        """Append a tail and return True, or return False when it does not fit."""
        begin, end = self.length, self.length + len(tail.ids)
        if end > LENGTH:
            return False
        self.segments += 1
        self.ids[begin:end], self.segment[begin:end] = tail.ids, self.segments
        self.positions[:, begin:end] = np.arange(self.next, self.next + len(tail.ids))
        first = begin + len(tail.given) - 1
        self.supervised += [
            (first + i, token, weight, SKILLS.index(skill)) for i, (token, weight, skill) in enumerate(tail.said)
        ]
        self.length = end
        return True


def build_batch(seed: int, step: int, rows: int, mix: Mix) -> Batch:
    """Draw the batch of one step; the same arguments always give the same batch."""
    rng = random.Random(seed * 1_000_003 + step)
    made, scenes, sees = [], [], []
    for position in range(rows):
        family = FAMILIES[(step + position) % len(FAMILIES)]
        shifted = rng.random() < mix.shifted
        index = (seed * 1_000_000 + step) * rows + position
        scene = draw_scene(family, "pretrain", index, shifted=shifted, strengths=STRENGTHS)
        seen = rng.random() >= mix.captions
        row = _Row(scene, seen)
        kinds = list(scene.facts.answers)
        while row.add(question_tail(kind := rng.choice(kinds), scene.facts.answers[kind], mix, rng, scene.facts.trace)):
            continue
        made.append(row)
        scenes.append(scene)
        sees.append(seen)
    return _collate(made, scenes, sees)


def _collate(rows: list[_Row], scenes: list[Scene], sees: list[bool]) -> Batch:
    segment = np.stack([row.segment for row in rows])
    order = np.tri(LENGTH, dtype=bool)
    visible = order & ((segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None]))
    supervised = [(n, *item) for n, row in enumerate(rows) for item in row.supervised]
    row, place, target, weight, skill = zip(*supervised, strict=True)
    attributes = [[scene.facts.attributes.get(name, -100) for name in ATTRIBUTES] for scene in scenes]
    return Batch(
        pixels=torch.from_numpy(np.stack([scene.pixels for scene in scenes])),
        attributes=torch.tensor(attributes),
        seen=torch.tensor(sees),
        ids=torch.from_numpy(np.stack([row.ids for row in rows])),
        positions=torch.from_numpy(np.stack([row.positions for row in rows], axis=1)),
        mask=torch.where(torch.from_numpy(visible), 0.0, torch.finfo(torch.float32).min)[:, None],
        row=torch.tensor(row),
        place=torch.tensor(place),
        target=torch.tensor(target),
        weight=torch.tensor(weight),
        skill=torch.tensor(skill),
    )


class Batches(Dataset[Batch]):
    """The batches of one stage, made in a worker process while the model trains."""

    def __init__(self, seed: int, first: int, last: int, rows: int, mix: Mix) -> None:
        self.seed, self.first, self.last, self.rows, self.mix = seed, first, last, rows, mix

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        return build_batch(self.seed, self.first + index, self.rows, self.mix)
