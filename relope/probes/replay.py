"""Block l run again from the cached layer l-1: exactly what the backbone would give, far cheaper.

What a decoder block receives besides its input (mask, rotary embedding, positions) follows from
the prompt's token types, its positions and the configuration, so a store that keeps those and the
block's weights needs no checkpoint.
"""

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from relope.errors import NotFoundError, RelopeError, StoreError, UnsupportedError
from relope.probes.heads import to_device
from relope.rope import longrope_bound
from relope.seals import first_line
from relope.store import BLOCK_FILES, RaggedBatch, RowReader, check_block, has_block

_SIZES = re.compile(r"layers|depth|experts|heads|size|dim|width")
_LARGEST = {"layers": 1024, "depth": 1024, "experts": 4096, "heads": 4096}
_LARGEST |= dict.fromkeys(("size", "dim", "width"), 1 << 22)
"""Word in the name of a number → the largest that is believed."""

SHARES_STATE = ("gemma4", "gemma3n")
"""Model types whose blocks take more than hidden states: refused until proved equal."""


@dataclass(frozen=True)
class PaddedBatch:
    """Left-padded input of block l.

    Attributes:
        hidden: states ``[B, T, H]``.
        mask: ``[B, T]``, 1 on tokens.
        positions: ``[R, B, T]`` position ids.
        types: token types ``[B, T]``; None where the model has none.
    """

    hidden: Tensor
    mask: Tensor
    positions: Tensor
    types: Tensor | None

    def take(self, rows: Tensor) -> "PaddedBatch":
        """Return some rows of the batch."""
        types = None if self.types is None else self.types[rows]
        return PaddedBatch(self.hidden[rows], self.mask[rows], self.positions[:, rows], types)


def read_batch(store: RowReader, batch: RaggedBatch, device: str, dtype: torch.dtype) -> PaddedBatch:
    """Pad a ragged batch of layer l-1 on the left, in the block's dtype, and add what its tokens say."""
    values = torch.from_numpy(batch.values)
    states = values.view(torch.bfloat16) if batch.dtype == "bfloat16" else values
    columns = store.manifest.token_columns
    tokens, _ = store.token_batch(batch.rows)
    lengths = np.diff(batch.offsets)
    longest = int(lengths.max())
    where = _left_padded(lengths, longest)
    table = _pad(torch.from_numpy(tokens).long(), where, len(lengths), longest)
    position_columns = [columns.index(name) for name in columns if name.startswith("position_")]
    states = to_device(states, device)
    return PaddedBatch(
        hidden=_pad(states, to_device(where, device), len(lengths), longest).to(dtype),
        mask=to_device(_pad(torch.ones(len(values), dtype=torch.long), where, len(lengths), longest), device),
        positions=to_device(table[..., position_columns].permute(2, 0, 1).contiguous(), device),
        types=to_device(table[..., columns.index("type")].contiguous(), device),
    )


def _left_padded(lengths: npt.NDArray[np.int64], longest: int) -> Tensor:
    """Return for every token its row in the flattened ``[B · longest]`` batch."""
    starts = np.arange(1, len(lengths) + 1) * longest - lengths
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return torch.from_numpy(np.repeat(starts, lengths) + within)


def _pad(flat: Tensor, where: Tensor, rows: int, longest: int) -> Tensor:
    padded = flat.new_zeros(rows * longest, *flat.shape[1:])
    padded[where] = flat
    return padded.view(rows, longest, *flat.shape[1:])


class BlockReplay:
    """Decoder block l alone, with everything that its inputs are derived from.

    Attributes:
        skeleton: the model without weights, for its configuration and its way to build masks.
        block: the frozen decoder block.
        layer: its 1-based number.
        dtype: number type of the block's weights.
        reach: longest prompt for which the rotary embedding is as it is for short ones, or None
            where length does not change it.
        is_plain: whether its attention is the plain one that ``fast`` computes: scores neither capped nor with sinks.
    """

    def __init__(self, skeleton: Any, block: nn.Module, layer: int) -> None:
        decoder = skeleton.get_decoder()
        self.skeleton, self.block, self.layer = skeleton, block, layer
        self.text_config = decoder.config
        kinds = getattr(self.text_config, "layer_types", None)
        self.kind = kinds[layer - 1] if kinds else "full_attention"
        weight = next(block.parameters())
        self.dtype = weight.dtype
        self.rotary = type(decoder.rotary_emb)(config=self.text_config).to(weight.device)
        self.rotary_by_kind = isinstance(getattr(self.rotary, "rope_type", None), dict)
        self.reach = longrope_bound(self.text_config)
        attention: Any = block.self_attn
        self.is_plain = getattr(attention, "attn_logit_softcapping", None) is None and not hasattr(attention, "sinks")

    @classmethod
    def open(cls, store: RowReader, layer: int, device: str, dtype: str = "auto") -> "BlockReplay":
        """Build the block from the ``block_<l>`` folder of a store.

        Args:
            store: the opened store.
            layer: l.
            device: where the block is run.
            dtype: number type it is run in; ``auto`` = as the store was made.

        Raises:
            NotFoundError: the store keeps no weights of block l.
            UnsupportedError: a model type whose blocks cannot be replayed.
        """
        folder = store.block_folder(layer)
        if not has_block(folder.parent, layer):
            raise NotFoundError(
                f"{store.label} keeps no weights of block {layer}",
                hint=f"extract with --layers {layer - 1},{layer} into a new --out, or fit with --set mode=full",
            )
        changed = max((folder / name).lstat().st_mtime_ns for name in BLOCK_FILES if (folder / name).exists())
        rows = sum(name.startswith("position_") for name in store.manifest.token_columns)
        return _opened(folder, changed, layer, device, dtype, rows)

    def arguments(self, batch: PaddedBatch) -> dict[str, Any]:
        """Return what block l is called with besides its hidden states."""
        rows = len(batch.positions)
        text = batch.positions[0]
        rotary = batch.positions[1:] if rows == 4 else batch.positions if rows == 3 else text
        with torch.no_grad():
            if self.rotary_by_kind:
                embedded = self.rotary(batch.hidden, rotary, self.kind)
            else:
                embedded = self.rotary(batch.hidden, position_ids=rotary)
            mask = self._mask(batch, text)
        return {"attention_mask": mask, "position_embeddings": embedded, "position_ids": text}

    def _mask(self, batch: PaddedBatch, text: Tensor) -> Any:
        from transformers.masking_utils import create_masks_for_generate

        make: Any = create_masks_for_generate
        given = batch.hidden, batch.mask, None, text  # by position: transformers 5.24 renamed the third, the cache
        own = getattr(self.skeleton, "create_masks_for_generate", make)
        if own is make:
            masks = make(self.text_config, *given)
        else:
            types = "token_type_ids" if type(self.skeleton).__name__.startswith("Gemma3") else "mm_token_type_ids"
            masks = own(self.skeleton.config, *given, **{types: batch.types})
        return masks[self.kind] if isinstance(masks, dict) else masks

    def last_states(self, batch: PaddedBatch, block: nn.Module | None = None, *, fast: bool = True) -> Tensor:
        """Return ``[B, H]``: the output of block l at the last prompt token.

        Args:
            batch: input of the block, from ``read_batch``.
            block: what to run instead of the block (the block with LoRA); None = the block itself.
            fast: compute query, attention, output projection and MLP for the last token only;
                equal to the whole block within 1e-5 in float32.
        """
        run = self.block if block is None else block
        fast = fast and self.is_plain
        outputs = None
        for rows in self._of_one_kind(batch):
            part = batch if rows is None else batch.take(rows)
            with last_token_only(run) if fast else nullcontext():
                states = last_of(run(part.hidden, **self.arguments(part)))
            if rows is None:
                return states
            outputs = states.new_zeros(len(batch.mask), states.shape[1]) if outputs is None else outputs
            outputs = outputs.index_copy(0, rows, states)
        assert outputs is not None
        return outputs

    def _of_one_kind(self, batch: PaddedBatch) -> list[Tensor | None]:
        """Return the rows to run together: prompts beyond `reach` apart from the others, None = all."""
        if self.reach is None:
            return [None]
        long = batch.mask.sum(1) > self.reach
        if long.all() or not long.any():
            return [None]
        return [torch.nonzero(~long)[:, 0], torch.nonzero(long)[:, 0]]


@functools.lru_cache(maxsize=1)
def _opened(folder: Path, changed_ns: int, layer: int, device: str, dtype: str, rows: int) -> BlockReplay:
    """Build a block, or return the one built last: the fits of a sweep share it, and none changes it."""
    check_block(folder.parent, folder.name)
    try:
        replay = _built(folder, layer, device, dtype)
        replay.last_states(_two_tokens(replay, rows, device))  # fails where configuration and weights do not fit
        return replay
    except RelopeError:
        raise
    except Exception as error:  # whatever transformers says of a configuration that somebody changed
        raise StoreError(
            f"{folder.name} of {folder.parent} cannot be used ({type(error).__name__}: {first_line(error)})",
            hint="delete its folder and extract again: it is made anew from the checkpoint",
        ) from error


def _two_tokens(replay: BlockReplay, rows: int, device: str) -> PaddedBatch:
    """Return the shortest input of a block that has something to attend to."""
    width, plain = replay.text_config.hidden_size, torch.zeros(1, 2, dtype=torch.long, device=device)
    positions = torch.arange(2, device=device).expand(rows, 1, 2)
    return PaddedBatch(torch.zeros(1, 2, width, dtype=replay.dtype, device=device), plain + 1, positions, plain)


def _built(folder: Path, layer: int, device: str, dtype: str) -> BlockReplay:
    """Build a block from its files.

    Raises:
        UnsupportedError: a model type whose blocks cannot be replayed.
        StoreError: its configuration claims sizes that no model has, or names what is no model.
    """
    import transformers
    from transformers import AutoConfig

    settings = json.loads((folder / "replay.json").read_text(encoding="utf-8"))
    _check_sizes(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type.startswith(SHARES_STATE):
        raise UnsupportedError(
            f"blocks of {config.model_type} cannot be replayed from the cache: they share keys and values with others",
            hint="fit with --set mode=truncated or --set mode=full",
        )
    factory = getattr(transformers, settings["class"], None)
    if not (isinstance(factory, type) and issubclass(factory, transformers.PreTrainedModel)):
        name = settings["class"]
        raise StoreError(f"{folder.name}/replay.json of {folder.parent} names {name!s:.80}, which is no model class")
    model_class: Any = factory
    # A flash kernel may be missing where the fit runs; sdpa computes the same.
    attention = "sdpa" if settings["attention"].startswith("flash") else settings["attention"]
    with torch.device("meta"):
        skeleton = model_class._from_config(config, attn_implementation=attention)
    block = skeleton.get_decoder().layers[layer - 1]
    block.load_state_dict(load_file(folder / "block.safetensors"), assign=True, strict=True)
    wanted = None if dtype == "auto" else getattr(torch, dtype)
    return BlockReplay(skeleton, block.to(device, wanted).eval().requires_grad_(False), layer)


def _check_sizes(folder: Path, config: Any) -> None:
    """Refuse a configuration with sizes that no model has: classes would take memory, or build blocks, without end.

    Raises:
        StoreError: one is too large.
    """
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, dict):
            _check_sizes(folder, value)
        elif type(value) is int and (kind := _SIZES.search(key)) and abs(value) > _LARGEST[kind[0]]:
            raise StoreError(f"{folder.name}/config.json of {folder.parent} has {key} {value:,}, which no model has")


def last_of(output: Any) -> Tensor:
    """Return the last position ``[B, H]`` of a block's output."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states[:, -1]


@contextmanager
def last_token_only(block: nn.Module) -> Iterator[None]:
    """Within the context a block computes k and v for all tokens and the rest for the last one.

    Valid because only its last output is read and LoRA is confined to it. The query is computed
    for one token and expanded without a copy, so that the library's reshapes still fit; our
    attention function reads its last row.
    """
    attention: Any = block.self_attn
    mlp: Any = block.mlp
    config, hooks = attention.config, []
    before = config._attn_implementation
    if hasattr(attention, "q_proj"):
        lengths: list[int] = []

        def shorten(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            lengths.append(args[0].shape[1])
            return (args[0][:, -1:], *args[1:])

        hooks.append(attention.q_proj.register_forward_pre_hook(shorten))
        hooks.append(attention.q_proj.register_forward_hook(lambda m, a, out: out.expand(-1, lengths.pop(), -1)))
    for part in (attention.o_proj, mlp):
        hooks.append(part.register_forward_pre_hook(lambda m, args: (args[0][:, -1:], *args[1:])))
    config._attn_implementation_internal = _last_token_attention_name()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        config._attn_implementation_internal = before


def _last_token_attention_name() -> str:
    """Register our attention function with transformers once and return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    name = "relope_last_token"
    AttentionInterface.register(name, _last_token_attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def _last_token_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend from the last token only: query ``[B, N, T, D]`` → ``[B, T, N, D]`` (a broadcast view).

    Heads that share a key are taken for positions that do, so that no key or value is copied for each.
    """
    rows, heads, length, width = query.shape
    mask = attention_mask[:, :, -1:] if attention_mask is not None else None
    last = query[:, :, -1].reshape(rows, key.shape[1], heads // key.shape[1], width)
    out = nn.functional.scaled_dot_product_attention(last, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(rows, 1, heads, value.shape[-1]).expand(-1, length, -1, -1), None
