"""Mends what vLLM's kernels for a CPU get wrong in sampling beside ``extract_hidden_states``.

That method is a speculative one: each token that follows is drawn by the rejection sampler, which spreads the settings
of requests over their draft tokens. The CPU's kernel for that takes every tensor for int64 and writes into a copy of
the others, so that temperatures and top-k are what lay in memory before. And where a prompt with a seed is read in
chunks, the worker takes back what was drawn for nothing by an offset that a generator on a CPU has not, and dies.

Source: vLLM 0.32, ``utils/cpu_triton_utils.py`` (``_expand_kernel_impl``), ``v1/sample/rejection_sampler.py``,
``v1/worker/gpu_model_runner.py`` (``_bookkeeping_sync``).
"""

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


def mend() -> None:
    """Put the above in the place of what is there, in this process."""
    from vllm.v1.sample import rejection_sampler

    made: Any = torch
    rejection_sampler.expand_batch_to_tokens = expanded
    made.Generator = Generator
