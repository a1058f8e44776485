"""What is asked after the prompt: sampled traces and p(True), from the prefill's own KV cache.

Nothing here runs the prompt or the vision tower again: suffixes are fed to a copy of the cache.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from relope.errors import UnsupportedError
from relope.extract.model.cache import cache_name, repeated, share
from relope.extract.model.extras import Extras
from relope.extract.model.interfaces import Model, Tokenizer


@dataclass(frozen=True)
class Prefix:
    """A batch that the model has read so far.

    Attributes:
        cache: its keys and values.
        mask: ``[B, T]`` one for a token, zero for padding.
        position: ``[R, B]`` position ids of the last token (R = 4 on Qwen2.5-VL, else 1).
    """

    cache: Cache
    mask: Tensor
    position: Tensor

    def apart(self) -> "Prefix":
        """Return the same, to be fed while this one stays as it is."""
        return replace(self, cache=share(self.cache))

    def repeated(self, times: int, room: int) -> "Prefix":
        """Return the batch with every row ``times`` times, side by side, and room for ``room`` tokens more."""
        mask, position = self.mask.repeat_interleave(times, 0), self.position.repeat_interleave(times, 1)
        return Prefix(repeated(self.cache, times, room), mask, position)


def feed(model: Model, read: Prefix, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Prefix]:
    """Let the model read further tokens; the cache of ``read`` grows and belongs to what is returned.

    Args:
        model: the model.
        read: what it has read.
        ids: ``[B, S]`` tokens, padded on the right.
        lengths: ``[B]`` tokens of each row; None = S. A ragged batch cannot be continued, only scored.

    Returns:
        ``[B, V] float32`` logits after each row's last token, and what has been read now.
    """
    rows, width = ids.shape
    steps = torch.arange(1, width + 1, device=ids.device)
    positions = read.position[..., None] + steps
    mask = torch.cat([read.mask, read.mask.new_ones(rows, width)], 1)
    grown = replace(read, mask=mask, position=positions[..., -1])
    columns, chosen = (None, None) if lengths is None else torch.unique(lengths - 1, return_inverse=True)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions if len(positions) > 1 else positions[0],
        use_cache=True,
        logits_to_keep=1 if columns is None else columns,
        **{cache_name(model): grown.cache},
    )
    logits: Tensor = out.logits
    if chosen is None:
        return logits[:, -1].float().to(ids.device), grown
    return logits[torch.arange(rows, device=logits.device), chosen.to(logits.device)].float().to(ids.device), grown


def draws(ids: Sequence[str], style: str, extras: Extras, n_tokens: int) -> Tensor:
    """Return ``[B·samples, n_tokens]`` uniform numbers that depend on nothing but sample, style and seed."""
    rows = []
    for name in ids:
        key = hashlib.sha256(f"{extras.seed}\n{style}\n{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
        rows.append(torch.rand(extras.samples, n_tokens, generator=generator))
    return torch.cat(rows)


def pick(logits: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Return ``[B]`` tokens: where a uniform number falls in the distribution of ``[B, V]`` logits."""
    summed = (logits / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(summed, drawn[:, None] * summed[:, -1:], right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def sample_traces(
    model: Model, prompt: Prefix, suffix: Sequence[int], drawn: Tensor, temperature: float, end_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample answers that begin after a suffix of the prompt.

    Args:
        model: the model.
        prompt: a batch of B prompts that it has read.
        suffix: token ids fed first, the same for all.
        drawn: ``[B·k, n]`` uniform numbers: k traces a prompt of at most n tokens.
        temperature: divides the logits.
        end_ids: tokens that end a trace.

    Returns:
        ``[B·k, A]`` token ids, and whether each belongs to its trace.
    """
    device = prompt.mask.device
    times = len(drawn) // len(prompt.mask)
    begin = torch.tensor(list(suffix), device=device).expand(len(prompt.mask), -1)
    logits, read = feed(model, prompt.apart(), begin)
    logits, read, drawn = logits.repeat_interleave(times, 0), read.repeated(times, drawn.shape[1]), drawn.to(device)
    alive = torch.ones(len(drawn), dtype=torch.bool, device=device)
    tokens, kept = [], []
    for step in range(drawn.shape[1]):
        token = pick(logits, drawn[:, step], temperature)
        alive = alive & ~torch.isin(token, end_ids)
        tokens.append(token)
        kept.append(alive)
        if step + 1 == drawn.shape[1] or not alive.any():
            break
        logits, read = feed(model, read, token[:, None])
    return torch.stack(tokens, 1), torch.stack(kept, 1)


def truth_ids(tokenizer: Tokenizer, name: str) -> tuple[int, int]:
    """Return the first token of "True" and of "False".

    Raises:
        UnsupportedError: the tokenizer cannot tell them apart by it.
    """
    true, false = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("True", "False"))
    if true == false:
        raise UnsupportedError(
            f"the tokenizer of {name} begins True and False with the same token", hint="drop --p-true"
        )
    return true, false


def ask_whether_true(
    model: Model, prompt: Prefix, answers: Sequence[Sequence[int]], follow_up: Sequence[int], truths: tuple[int, int]
) -> Tensor:
    """Return ``[B]``: P(True) / (P(True) + P(False)) when asked about one's own answer.

    Args:
        model: the model.
        prompt: a batch of B prompts that it has read.
        answers: token ids of each row's answer, without the end token.
        follow_up: token ids of the turn that asks.
        truths: from ``truth_ids``.
    """
    device = prompt.mask.device
    rows = [torch.tensor([*answer, *follow_up]) for answer in answers]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    logits, _ = feed(model, prompt.apart(), ids, lengths)
    return (logits[:, truths[0]] - logits[:, truths[1]]).sigmoid()
