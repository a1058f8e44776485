"""Token rows of the second testbed: prompts for the benchmark, and training rows that ask several questions at once.

In training, an image (or a description) is the prefix of a row, and the questions about it follow as
*tails* that see the prefix and themselves but not each other. In an image-last row, the one question
comes first, so that the image's tokens are read with it in mind.
"""

from dataclasses import dataclass
from functools import cache

import torch
from premise_model import END, IMAGE, PAD, START, UNKNOWN, WORD, encode
from premise_paint import Look, draw_look
from premise_scenes import (
    ANSWERS,
    COLORS,
    KINDS,
    MOST,
    PLACES,
    RADII,
    SHAPES,
    SLOTS,
    TEMPLATES,
    Questions,
    Scenes,
    ask,
    draw_scenes,
)  # fmt: skip
from torch import Tensor
from torch.utils.data import Dataset

N_IMAGE = PLACES**2
OBJECT_WORDS = 6
CAPTION = MOST * OBJECT_WORDS
ORDERS = ("image-first", "image-last", "text")
ASKED = ("color-of", "shape-of", "place-of", "place-of", "count-in", "count-in", "count", "count")
"""The kind of each tail."""

TURN = (END, START, WORD["assistant"])
BEGIN = (START, WORD["user"])


def question_ids(questions: Questions) -> Tensor:
    """Return ``[B, W]``: the tokens of questions of one kind."""
    kind, slot, columns = KINDS[questions.kind], 0, []
    for word in TEMPLATES[kind].split():
        if "{" in word:
            columns.append(torch.tensor(encode(SLOTS[kind][slot]))[questions.words[:, slot]])
            slot += 1
        else:
            columns.append(torch.full((len(questions.words),), WORD[word]))
    return torch.stack(columns, 1)


def answer_ids(questions: Questions) -> Tensor:
    """Return ``[B]``: the answers' tokens."""
    tokens = torch.tensor(encode(ANSWERS[KINDS[questions.kind]]))
    return tokens[questions.answer.clamp(0, len(tokens) - 1)]


def caption_ids(scenes: Scenes) -> Tensor:
    """Return ``[B, CAPTION]``: an exact description of each scene, padded on the left."""
    lists = COLORS, SHAPES, [f"s{n}" for n in range(len(RADII))], *([f"{a}{n}" for n in range(PLACES)] for a in "xy")
    values = scenes.color, scenes.shape, scenes.size, scenes.column, scenes.row
    words = [torch.tensor(encode(words))[value] for words, value in zip(lists, values, strict=True)]
    flat = torch.stack([*words, torch.full_like(words[0], WORD[";"])], 2).flatten(1)
    number = OBJECT_WORDS * scenes.there.sum(1, keepdim=True)
    source = torch.arange(CAPTION) - (CAPTION - number)
    return torch.where(source >= 0, flat.gather(1, source.clamp(min=0)), PAD)


def smudged(caption: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return captions of graded difficulty: up to ``0.4 × strength`` of the words cannot be read."""
    difficulty = 0.4 * strength * torch.rand(len(caption), 1, generator=generator)
    lost = torch.rand(caption.shape, generator=generator) < difficulty
    return torch.where(lost & (caption != PAD) & (caption != WORD[";"]), UNKNOWN, caption)


def left_aligned(rows: Tensor, length: int) -> Tensor:
    """Return rows padded on the left to a length, padding within a row moved there too."""
    order = (rows != PAD).long().argsort(dim=1, stable=True)
    rows = rows.gather(1, order)
    return torch.cat([rows.new_full((len(rows), length - rows.shape[1]), PAD), rows], 1)


LENGTHS = {"image-first": 271, "image-last": 271, "text": 71}
"""Order → tokens of a padded prompt; with its answer a multiple of 8."""


def prompt_ids(questions: Questions, order: str, caption: Tensor | None = None) -> Tensor:
    """Return ``[B, T]`` prompts of one kind in an order, padded on the left, up to where the answer begins."""
    asked = question_ids(questions)
    n = len(asked)

    def same(tokens: tuple[int, ...]) -> Tensor:
        return torch.tensor(tokens).expand(n, -1)

    shown = same((IMAGE,) * N_IMAGE) if caption is None else caption
    middle = [asked, shown] if order == "image-last" else [shown, asked]
    return left_aligned(torch.cat([same(BEGIN), *middle, same(TURN)], 1), LENGTHS[order])


def seen_by(ids: Tensor) -> Tensor:
    """Return ``[B, 1, T, T]``: the causal mask of rows padded on the left; a padding token sees itself."""
    order = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
    return ((ids != PAD)[:, None, None] & order.tril()) | torch.eye(len(order), dtype=torch.bool, device=ids.device)


@dataclass(frozen=True)
class Layout:
    """Where everything stands in rows with tails.

    Attributes:
        positions: ``[T]``; every tail goes on from the prefix.
        mask: ``[T, T]`` True where a token sees another.
        ends: the places of the tails' end-of-turn tokens, before which the question is known.
        answers: the places from which the tails' answers are predicted.
    """

    positions: Tensor
    mask: Tensor
    ends: Tensor
    answers: Tensor


@cache
def begin_of(device: torch.device) -> Tensor:
    """Return the tokens that begin every row."""
    return torch.tensor(BEGIN, device=device)


@cache
def layout(prefix: int, device: torch.device) -> Layout:
    """Return the layout of rows whose tails follow ``prefix`` tokens."""
    widths = [len(TEMPLATES[kind].split()) + len(TURN) + 1 for kind in ASKED]
    segment = torch.tensor([0] * prefix + [n for n, width in enumerate(widths, 1) for _ in range(width)])
    positions = torch.tensor([*range(prefix), *(prefix + n for width in widths for n in range(width))])
    seen = (segment == 0) | (segment[:, None] == segment)
    stops = torch.tensor(widths).cumsum(0) + prefix
    parts = positions, seen.tril(), stops - 1 - len(TURN), stops - 2
    return Layout(*(part.to(device) for part in parts))


def tails(questions: list[Questions]) -> Tensor:
    """Return ``[B, ΣW]``: questions with their answers, one of each kind in ASKED."""
    parts = []
    for one in questions:
        turn = torch.tensor(TURN).expand(len(one.answer), -1)
        parts += [question_ids(one), turn, answer_ids(one)[:, None]]
    return torch.cat(parts, 1)


@dataclass(frozen=True)
class Batch:
    """One step's data: B scenes, Q tails about each, and one image-last question about some.

    Attributes:
        scenes: B scenes.
        look: of their pictures.
        tails: ``[B, ΣW]`` token ids.
        caption: ``[B, CAPTION]``.
        answer: ``[B, Q]`` tokens.
        asked: ``[B, Q]``.
        found: ``[B, Q]`` the object that is to be found, -1 = none.
        last_ids: ``[L, T]`` image-last prompts about the first L scenes.
        last_answer: ``[L]``.
        last_asked: ``[L]``.
        last_found: ``[L]``.
    """

    scenes: Scenes
    look: Look
    tails: Tensor
    caption: Tensor
    answer: Tensor
    asked: Tensor
    found: Tensor
    last_ids: Tensor
    last_answer: Tensor
    last_asked: Tensor
    last_found: Tensor


def build_batch(seed: int, step: int, images: int, last: int) -> Batch:
    """Build the batch of one step: a function of the seed and the step."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    scenes = draw_scenes(images, generator)
    look = draw_look(scenes, torch.zeros(images, 8), generator)
    asked = [ask(scenes, kind, generator) for kind in ASKED]
    chunks = torch.arange(last).tensor_split(len(KINDS))
    lasts = [ask(scenes.take(rows), kind, generator) for rows, kind in zip(chunks, KINDS, strict=True)]
    return Batch(
        scenes=scenes,
        look=look,
        tails=tails(asked),
        caption=caption_ids(scenes),
        answer=torch.stack([answer_ids(one) for one in asked], 1),
        asked=torch.stack([one.asked for one in asked], 1),
        found=torch.stack([one.found for one in asked], 1),
        last_ids=torch.cat([prompt_ids(one, "image-last") for one in lasts]),
        last_answer=torch.cat([answer_ids(one) for one in lasts]),
        last_asked=torch.cat([one.asked for one in lasts]),
        last_found=torch.cat([one.found for one in lasts]),
    )


class Batches(Dataset[Batch]):
    """The batches of a training run, made in worker processes while the model trains."""

    def __init__(self, seed: int, first: int, last: int, images: int, last_rows: int) -> None:
        self.seed, self.first, self.last, self.images, self.last_rows = seed, first, last, images, last_rows

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        return build_batch(self.seed, self.first + index, self.images, self.last_rows)
