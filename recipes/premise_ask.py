"""The second testbed's benchmark: questions of a split, and what a model answers and shows while it reads them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from premise_model import END, IMAGE, decode, image_features
from premise_paint import Look, draw_look, draw_shift, paint
from premise_rows import answer_ids, caption_ids, prompt_ids, seen_by, smudged
from premise_scenes import ANSWERS, KINDS, SIDE, Scenes, ask, draw_scenes, wording
from torch import Tensor

CHUNK = 500
"""Scenes that are drawn together: a shorter split is the beginning of a longer one."""

GREY = 230


@dataclass(frozen=True)
class Asked:
    """N questions, one about each of N scenes.

    Attributes:
        kind: ``[N]`` index into KINDS.
        scenes: what is shown.
        look: how.
        prompts: order → ``[N, T]`` token ids.
        answer: ``[N]`` the right token.
        text: the questions in words.
        said: the right answers in words.
    """

    kind: Tensor
    scenes: Scenes
    look: Look
    prompts: dict[str, Tensor]
    answer: Tensor
    text: tuple[str, ...]
    said: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kind)

    def part(self, start: int, stop: int) -> "Asked":
        """Return the questions from one up to, not including, another."""
        rows = torch.arange(start, min(stop, len(self)))
        return Asked(
            kind=self.kind[rows],
            scenes=self.scenes.take(rows),
            look=self.look.take(rows),
            prompts={order: ids[rows] for order, ids in self.prompts.items()},
            answer=self.answer[rows],
            text=self.text[start:stop],
            said=self.said[start:stop],
        )


def questions(split: str, n: int, strength: float, smudge: float) -> Asked:
    """Draw the first n questions of a split, all kinds alike.

    Args:
        split: any name; another one shares no scene.
        n: how many.
        strength: of the shift of images; 0 draws clean ones.
        smudge: strength of the shift of descriptions.
    """
    chunks: list[Asked] = []
    while sum(map(len, chunks)) < n:
        chunks.append(_chunk(split, len(chunks), strength, smudge))
    return joined(chunks).part(0, n)


def _chunk(split: str, number: int, strength: float, smudge: float) -> Asked:
    seed = int.from_bytes(hashlib.sha256(f"{split}|{number}".encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(seed)
    share, parts = CHUNK // len(KINDS), []
    for kind in KINDS:
        scenes = draw_scenes(2 * share, generator)
        asked = ask(scenes, kind, generator)
        rows = torch.nonzero(asked.asked)[:share, 0]
        scenes = scenes.take(rows)
        asked = replace(asked, **{f.name: getattr(asked, f.name)[rows] for f in fields(asked) if f.name != "kind"})
        look = draw_look(scenes, draw_shift(len(rows), strength, generator), generator)
        caption = smudged(caption_ids(scenes), smudge, generator)
        prompts = {order: prompt_ids(asked, order) for order in ("image-first", "image-last")}
        prompts["text"] = prompt_ids(asked, "text", caption)
        text = tuple(wording(kind, words) for words in asked.words.tolist())
        said = tuple(ANSWERS[kind][answer] for answer in asked.answer.tolist())
        kinds = torch.full((len(rows),), KINDS.index(kind))
        parts.append(Asked(kinds, scenes, look, prompts, answer_ids(asked), text, said))
    return _shuffled(joined(parts), torch.randperm(share * len(KINDS), generator=generator))


def joined(parts: Sequence[Asked]) -> Asked:
    def put(values: list[Any]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        return replace(values[0], **{f.name: put([getattr(v, f.name) for v in values]) for f in fields(values[0])})

    return Asked(
        kind=put([part.kind for part in parts]),
        scenes=put([part.scenes for part in parts]),
        look=put([part.look for part in parts]),
        prompts={order: put([part.prompts[order] for part in parts]) for order in parts[0].prompts},
        answer=put([part.answer for part in parts]),
        text=tuple(text for part in parts for text in part.text),
        said=tuple(said for part in parts for said in part.said),
    )


def _shuffled(asked: Asked, order: Tensor) -> Asked:
    return Asked(
        kind=asked.kind[order],
        scenes=asked.scenes.take(order),
        look=asked.look.take(order),
        prompts={name: ids[order] for name, ids in asked.prompts.items()},
        answer=asked.answer[order],
        text=tuple(asked.text[at] for at in order.tolist()),
        said=tuple(asked.said[at] for at in order.tolist()),
    )


@dataclass(frozen=True)
class Replies:
    """What a model made of N questions; all on its device.

    Attributes:
        correct: ``[N] bool``: it said the right word, and ended there.
        logprob: ``[N]`` of the word it said.
        entropy: ``[N]`` in nats.
        final: ``[N, H]`` normalised final state, from which the word was said.
        last: block → ``[N, H]`` its output at the last prompt token.
        tokens: block → ``[N, T, H] float16`` its output at every token.
    """

    correct: Tensor
    logprob: Tensor
    entropy: Tensor
    final: Tensor
    last: dict[int, Tensor]
    tokens: dict[int, Tensor]


def put(
    model: Any, asked: Asked, order: str, *, blank: bool = False, last: Sequence[int] = (), tokens: Sequence[int] = ()
) -> Replies:
    """Put questions to a model in one order; see ``put_in``."""
    return put_in(model, asked, (order,), blank=blank, last=last, tokens=tokens)[order]


@torch.no_grad()
def put_in(
    model: Any,
    asked: Asked,
    orders: Sequence[str],
    *,
    blank: bool = False,
    last: Sequence[int] = (),
    tokens: Sequence[int] = (),
    at_once: int = 250,
    kept: Mapping[str, Mapping[int, Tensor]] | None = None,
) -> dict[str, Replies]:
    """Put questions to a model in some orders; an image is drawn and read by the tower once for all of them.

    Args:
        model: the LLaVA, in float32.
        asked: the questions.
        orders: some of ORDERS.
        blank: put an even grey in the place of every image.
        last: blocks whose last token is kept.
        tokens: blocks whose every token is kept.
        at_once: questions in a batch.
        kept: order → block → ``[N, T, H] float16`` that the tokens are written to; None makes them on the device.
    """
    device = next(model.parameters()).device
    width = model.config.text_config.hidden_size

    if kept is None:
        kept = {order: _empty(asked.prompts[order].shape, width, tokens, device) for order in orders}
    found: dict[str, list[tuple[Tensor, ...]]] = {order: [] for order in orders}
    for rows in torch.arange(len(asked)).split(at_once):
        images = any(order != "text" for order in orders)
        features = image_features(model, _shown(asked, rows, device, blank)) if images else None
        answers = asked.answer[rows].to(device)
        for order in orders:
            ids = asked.prompts[order][rows].to(device)
            states = _read(model, ids, answers, None if order == "text" else features)
            for number, values in kept[order].items():
                values[rows] = states[number][:, :-1].half()
            found[order].append(_told(model, states, answers, last))
    return {order: _replies(found[order], last, dict(kept[order])) for order in orders}


def _empty(shape: Sequence[int], width: int, tokens: Sequence[int], device: torch.device) -> dict[int, Tensor]:
    return {number: torch.empty(*shape, width, dtype=torch.float16, device=device) for number in tokens}


def _told(model: Any, states: list[Tensor], answers: Tensor, last: Sequence[int]) -> tuple[Tensor, ...]:
    """Return what is known of a batch that was read with its right answers behind it."""
    logits = model.lm_head(states[-1][:, -2]).log_softmax(-1)
    logprob, word = logits.max(-1)
    ended = model.lm_head(states[-1][:, -1]).argmax(-1) == END
    entropy = -(logits.exp() * logits).sum(-1)
    # Copies: a view would keep the states of every token alive.
    lasts = [states[number][:, -2].clone() for number in (-1, *last)]
    return (word == answers) & ended, logprob, entropy, *lasts


def _replies(found: list[tuple[Tensor, ...]], last: Sequence[int], kept: dict[int, Tensor]) -> Replies:
    correct, logprob, entropy, final, *lasts = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Replies(correct, logprob, entropy, final, dict(zip(last, lasts, strict=True)), kept)


def _shown(asked: Asked, rows: Tensor, device: torch.device, blank: bool) -> Tensor:
    if blank:
        return torch.full((len(rows), SIDE, SIDE, 3), GREY, dtype=torch.uint8, device=device)
    return paint(asked.scenes.take(rows).to(device), asked.look.take(rows).to(device))


def _read(model: Any, ids: Tensor, answers: Tensor, features: Tensor | None) -> list[Tensor]:
    """Return every state of prompts that the right answers follow: a wrong one need not be read to be judged."""
    ids = torch.cat([ids, answers[:, None]], 1)
    embedded = model.get_input_embeddings()(ids)
    if features is not None:
        embedded = embedded.masked_scatter((ids == IMAGE)[..., None], features.to(embedded.dtype))
    return decode(model, embedded, torch.arange(ids.shape[1], device=ids.device), seen_by(ids))


def by_kind(asked: Asked, correct: Tensor) -> dict[str, float]:
    """Return the accuracy in all and by kind."""
    shares = {"all": correct.float().mean().item()}
    for number, kind in enumerate(KINDS):
        shares[kind] = correct[(asked.kind == number).to(correct.device)].float().mean().item()
    return {name: round(share, 4) for name, share in shares.items()}


def blind_guess(asked: Asked) -> float:
    """Return the accuracy of giving the commonest answer of each kind: the best without looking."""
    counts = (torch.bincount(asked.answer[asked.kind == number]).max() for number in range(len(KINDS)))
    return round(sum(map(int, counts)) / len(asked), 4)
