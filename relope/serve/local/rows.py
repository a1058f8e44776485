"""Answers that are being written, row by row of one cache that others join and leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from relope.extract.model.backbone import Backbone
from relope.extract.model.cache import side_by_side
from relope.extract.model.continuation import Prefix, feed
from relope.extract.model.stops import Stops
from relope.serve.engine import Piece
from relope.serve.local.batches import Request
from relope.serve.local.choosing import Chooser, choose
from relope.serve.local.scoring import Said
from relope.serve.local.tickets import ThreadTicket
from relope.serve.local.writing import Writer


@dataclass(eq=False)
class Row:
    """One answer that is being written.

    Attributes:
        request: what is answered.
        chooser: how its tokens are chosen.
        writer: makes text of them.
        began: when its prompt was read, on the clock of ``time.perf_counter``.
        noted: of an answer that a router is to read: what it reads; None of any other.
        at_prompt: what each of the methods that a router stacks said of the prompt.
        token_ids: so far, without the end token.
        finish: why it ended, None while it goes on.
    """

    request: Request
    chooser: Chooser
    writer: Writer
    began: float
    noted: "Noted | None" = None
    at_prompt: Mapping[str, float] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None

    @property
    def ticket(self) -> ThreadTicket:
        """Who waits for it."""
        return self.request.ticket

    @property
    def n_left(self) -> int:
        """Tokens that may follow."""
        return self.request.prompt.limit - len(self.token_ids)

    @property
    def n_read(self) -> int:
        """Tokens that the model has read: all but the last."""
        return self.request.prompt.n_tokens + len(self.token_ids) - 1

    def take(self, token: int, ends: bool) -> Piece:
        """Return what one more token adds to the answer."""
        if ends:
            self.finish = "stop"
            return Piece(self.writer.end(), (), self.finish)
        self.token_ids.append(token)
        text = self.writer.add(token)
        if self.writer.stopped:
            self.finish = "stop"
        elif not self.n_left:
            self.finish, text = "length", text + self.writer.end()
            self.finish = "stop" if self.writer.stopped else self.finish
        return Piece(text, (token,), self.finish)


@dataclass
class Noted:
    """What a router reads of an answer, one entry a token.

    Attributes:
        logprobs: nats, of the raw distribution.
        entropies: nats.
        finals: ``[H]`` final-layer states that predicted it.
        pieces: of the answer, which are held until it is decided.
    """

    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finals: list[Tensor] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def said(self, ids: Sequence[int], stops: Stops, width: int) -> Said:
        """Return the answer as routers read it: without the tokens of the text that stopped it.

        Args:
            ids: of its tokens.
            stops: texts that may have stopped it.
            width: H.
        """
        ended = stops.ended(ids) if stops.texts else None
        n, text = (len(ids), stops.decode(ids)) if ended is None else ended
        final = torch.stack(self.finals[:n]).float().mean(0) if n else torch.zeros(width)
        return Said(text.strip(), self.logprobs[:n], self.entropies[:n], final)


class Answering:
    """Rows that are decoded together, one token a step."""

    def __init__(self, backbone: Backbone, noting: bool) -> None:
        """Begin without rows.

        Args:
            backbone: the opened model.
            noting: keep what a router reads of each answer.
        """
        self.backbone, self.noting = backbone, noting
        self.ends = frozenset(backbone.traits.end_ids)
        self.rows: list[Row] = []
        self._read: Prefix | None = None
        self._next: list[int] = []

    @property
    def width(self) -> int:
        """Tokens of the longest row, and those that all others are padded to."""
        return 0 if self._read is None else self._read.mask.shape[1]

    def join(self, rows: Sequence[Row], read: Prefix, logits: Tensor, final: Tensor) -> list[tuple[Row, Piece]]:
        """Add rows that were just read; return the first piece of each."""
        pieces = self._chosen(rows, logits, final)
        going = [number for number, row in enumerate(rows) if row.finish is None]
        if going:
            self._add([rows[number] for number in going], read, going)
        return pieces

    def step(self) -> list[tuple[Row, Piece]]:
        """Decode one token of every row; return a piece of each. Rows that end leave."""
        assert self._read is not None, "there are no rows"
        finals: list[Tensor] = []
        norm, ids = self.backbone.decoder.norm, torch.tensor(self._next)[:, None].to(self._read.mask.device)
        hook = norm.register_forward_hook(lambda m, a, out: finals.append(out[:, -1])) if self.noting else None
        try:
            logits, self._read = feed(self.backbone.model, self._read, ids)
        finally:
            if hook is not None:
                hook.remove()
        pieces = self._chosen(self.rows, logits, finals[0] if finals else logits)
        self._next = [row.token_ids[-1] if row.finish is None else 0 for row in self.rows]
        self._keep([number for number, row in enumerate(self.rows) if row.finish is None])
        return pieces

    def clear(self) -> None:
        """Let all rows go."""
        self.rows, self._read, self._next = [], None, []

    def give_up(self) -> list[Row]:
        """Free the rows whose tickets were cancelled, and return them."""
        gone = [row for row in self.rows if row.ticket.cancelled]
        self._keep([number for number, row in enumerate(self.rows) if row not in gone])
        return gone

    def _keep(self, going: list[int]) -> None:
        """Free all rows but those of these numbers."""
        if len(going) == len(self.rows):
            return
        rows, following = [self.rows[number] for number in going], [self._next[number] for number in going]
        read, self.rows, self._read, self._next = self._read, [], None, []
        if going and read is not None:
            self._add(rows, read, going, following)

    def _add(self, rows: list[Row], read: Prefix, chosen: list[int], following: list[int] | None = None) -> None:
        """Lay rows of another cache beside those that are there, without columns that are padding in all of them."""
        picked = torch.tensor(chosen, device=read.mask.device)
        parts = [*([] if self._read is None else [(self._read, None)]), (read, picked)]
        all_rows = [*self.rows, *rows]
        width = max(row.n_read for row in all_rows)
        room = max(row.n_left for row in all_rows)
        self._read = Prefix(
            cache=side_by_side([(part.cache, at) for part, at in parts], width, room),
            mask=torch.cat([_wide(part.mask if at is None else part.mask[at], width) for part, at in parts]),
            position=torch.cat([part.position if at is None else part.position[:, at] for part, at in parts], 1),
        )
        self.rows = all_rows
        self._next += [row.token_ids[-1] for row in rows] if following is None else following

    def _chosen(self, rows: Sequence[Row], logits: Tensor, final: Tensor) -> list[tuple[Row, Piece]]:
        """Choose a token of every row, with one copy from the device."""
        tokens = choose([row.chooser for row in rows], logits)
        columns = [tokens.double()]
        if self.noting:
            logprobs = logits.log_softmax(-1)
            columns += [
                logprobs.gather(1, tokens[:, None])[:, 0].double(),
                -(logprobs.exp() * logprobs).nan_to_num().sum(-1).double(),
            ]
        pieces = []
        for row, (number, *numbers), state in zip(rows, torch.stack(columns, 1).tolist(), final, strict=True):
            token = int(number)
            ends = token in self.ends
            piece = row.take(token, ends)
            if row.noted is not None and not ends:
                row.noted.logprobs.append(numbers[0])
                row.noted.entropies.append(numbers[1])
                row.noted.finals.append(state)
            pieces.append((row, piece))
        return pieces


def _wide(mask: Tensor, width: int) -> Tensor:
    """Return a mask ``[B, T]`` as ``[B, width]``, aligned at its end."""
    missing = width - mask.shape[1]
    return mask[:, -missing:] if missing < 0 else torch.nn.functional.pad(mask, (missing, 0))
