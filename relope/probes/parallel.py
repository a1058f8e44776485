"""Data parallelism under ``torchrun``: every process takes its share of each batch.

A fit is then the same computation as in one process: gradients are summed over the shares before
they are clipped, and every process makes the same step.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed

from relope.errors import InvalidInputError


@dataclass(frozen=True)
class World:
    """The processes that fit together: this one's number and how many there are."""

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> npt.NDArray[np.int64]:
        """Return which of n indices are this process's; every index is some process's."""
        return np.arange(self.rank, n, self.size)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Put the sum over all processes into each gradient; no gradient counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, values: npt.NDArray[np.float32], device: str) -> npt.NDArray[np.float32]:
        """Return the sum of an array over all processes."""
        if self.size == 1:
            return values
        whole = torch.from_numpy(values).to(device)
        distributed.all_reduce(whole)
        summed: npt.NDArray[np.float32] = whole.cpu().numpy()
        return summed


ALONE = World()


def world() -> World:
    """Return the processes that fit together; one, unless `process_group` says otherwise."""
    if distributed.is_available() and distributed.is_initialized():
        return World(distributed.get_rank(), distributed.get_world_size())
    return ALONE


def launched() -> int:
    """Return how many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: str, *, shared: bool) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, for as long as the block runs.

    Args:
        device: where this process fits.
        shared: whether the fit can be shared out, which takes samples that are streamed.

    Raises:
        InvalidInputError: several processes, and they cannot share the fit.
    """
    if launched() == 1:
        yield World()
        return
    if not shared:
        raise InvalidInputError(
            f"torchrun started {launched()} processes, but a fit from the cache, or out of fold, runs in one",
            hint="start it without torchrun, or stream with --set mode=truncated or full",
        )
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(torch.device(device))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield world()
    finally:
        distributed.destroy_process_group()
