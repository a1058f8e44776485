"""Mends what vLLM gets wrong on a CPU: sampling beside ``extract_hidden_states``, and attention within images.

That method is a speculative one: each token that follows is drawn by the rejection sampler, which spreads the settings
of requests over their draft tokens. The CPU's kernel for that takes every tensor for int64 and writes into a copy of
the others, so that temperatures and top-k are what lay in memory before. And where a prompt with a seed is read in
chunks, the worker takes back what was drawn for nothing by an offset that a generator on a CPU has not, and dies.

The tokens of an image of Gemma 3 read each other in both directions. vLLM says so to its attention backends, and that
of the CPU does not look: it reads images as text, and is not refused as other backends without that mask are.

Source: vLLM 0.32, ``utils/cpu_triton_utils.py`` (``_expand_kernel_impl``), ``v1/sample/rejection_sampler.py``,
``v1/worker/gpu_model_runner.py`` (``_bookkeeping_sync``, ``mm_req_doc_ranges``), ``v1/attention/backends/cpu_attn.py``,
``platforms/cpu.py`` (``get_attn_backend_cls``).
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch


def expanded(
    x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> torch.Tensor:
    """Return ``[num_tokens]``: every value of ``[batch]`` as often as its request has draft tokens."""
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1)).long()
    replaced = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return torch.repeat_interleave(replaced, counts, output_size=num_tokens)


class Generator(torch.Generator):
    """A generator that goes on where an offset is taken back: which number comes next then depends on the chunks."""

    def get_offset(self) -> int:
        """Return what `set_offset` takes."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Do nothing."""


def pieces(first: int, end: int, images: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bool]]:
    """Split the tokens of a step at its images.

    Args:
        first: position of the first token.
        end: position behind the last one.
        images: first and last position of each.

    Yields:
        The position behind a piece, and whether its tokens read what is before them alone.
    """
    for start, last in sorted(images):
        if last >= first and start < end:
            if start > first:
                yield start, True
            first = min(last + 1, end)
            yield first, False
    if first < end:
        yield end, True


def parted(common: Any) -> Any:
    """Return what attention is told of a step, with each image in place of a request of its own.

    Its tokens read all that the cache holds up to its end: what is before it, and each other.
    """
    begins, ends = common.query_start_loc_cpu.tolist(), common.seq_lens.tolist()
    rows, starts, seen, causal = list[int](), [0], list[int](), list[int]()
    for row, end in enumerate(ends):
        shift = begins[row + 1] - end
        for until, text in pieces(begins[row] - shift, end, common.mm_req_doc_ranges.get(row, ())):
            rows.append(row)
            starts.append(until + shift)
            seen.append(until)
            causal.append(int(text))
    make = functools.partial(torch.tensor, dtype=torch.int32)
    return common.replace(
        num_reqs=len(rows),
        query_start_loc=make(starts),
        query_start_loc_cpu=make(starts),
        seq_lens=make(seen),
        block_table_tensor=common.block_table_tensor[rows],
        causal=make(causal),
    )


def seeing_images(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return a builder's ``build`` that does so where a step has images whose tokens read each other."""

    @functools.wraps(build)
    def built(self: Any, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Any:
        has_some = any((common_attn_metadata.mm_req_doc_ranges or {}).values())
        told = parted(common_attn_metadata) if has_some else common_attn_metadata
        return build(self, common_prefix_len, told, fast_build)

    return built


def mend() -> None:
    """Put the above in the place of what is there, in this process."""
    from vllm.v1.attention.backends import cpu_attn
    from vllm.v1.sample import rejection_sampler

    made: Any = torch
    rejection_sampler.expand_batch_to_tokens = expanded
    made.Generator = Generator
    if not cpu_attn.CPUAttentionBackend.supports_mm_prefix():
        builder = cpu_attn.CPUAttentionMetadataBuilder
        builder.build = seeing_images(builder.build)
