"""One training loop for every trained head: AdamW, early stopping on an inner validation AUC."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from relope.probes import Params
from relope.types import Progress

log = logging.getLogger(__name__)
T = TypeVar("T")


class Training(Params):
    """Settings of every trained head. Choice: the paper states AdamW only."""

    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(64, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(5, ge=1)
    inner_share: float = Field(0.15, gt=0, lt=1)


@dataclass
class History:
    """Inner validation AUC after each epoch, and the epoch whose weights were kept (from 0)."""

    auc: list[float] = field(default_factory=list)
    best: int = -1


def inner_split(
    groups: npt.NDArray[np.str_], correct: npt.NDArray[np.bool_], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split training samples by group into (fit, validation) places.

    Groups are drawn at random until the validation side holds ``share`` of the samples and both
    classes; a group is never cut.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.zeros(len(names), dtype=bool)
    target, taken = share * len(groups), 0
    for name in order[:-1]:
        enough = taken >= target and len(np.unique(correct[held[inverse]])) == 2
        if enough:
            break
        held[name] = True
        taken += int(counts[name])
    inside = held[inverse]
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def minibatches(n: int, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yield shuffled places 0…n-1 in batches."""
    order = rng.permutation(n)
    for start in range(0, n, size):
        yield order[start : start + size]


def train(
    module: nn.Module,
    groups: Iterable[dict[str, object]],
    epoch: Callable[[np.random.Generator], Iterable[T]],
    loss_of: Callable[[T], Tensor],
    validate: Callable[[], float],
    settings: Training,
    seed: int,
    progress: Progress,
) -> History:
    """Train until the inner validation AUC has not risen for ``patience`` epochs.

    Args:
        module: what is trained; ends with the weights of its best epoch.
        groups: parameter groups for AdamW.
        epoch: rng → the batches of one epoch.
        loss_of: batch → scalar loss.
        validate: returns the inner validation AUC.
        settings: rates and bounds.
        seed: decides the order of the batches.
        progress: told the epochs done and allowed.
    """
    listed = list(groups)
    optimizer = torch.optim.AdamW(listed, lr=settings.lr, weight_decay=settings.weight_decay)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rng, history, kept = np.random.default_rng(seed), History(), dict[str, Tensor]()
    for number in range(settings.epochs):
        module.train()
        for batch in epoch(rng):
            optimizer.zero_grad(set_to_none=True)
            loss_of(batch).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        module.eval()
        history.auc.append(validate())
        if history.best < 0 or history.auc[-1] > history.auc[history.best]:
            history.best = number
            kept = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        progress(number + 1, settings.epochs)
        if number - history.best >= settings.patience:
            break
    module.load_state_dict(kept)
    progress(settings.epochs, settings.epochs)
    return history


def rank_auc(correct: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Return the ROC-AUC by mid-ranks, 0.5 when one class is absent (for early stopping only)."""
    from scipy.stats import rankdata

    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[correct].sum() - right * (right + 1) / 2) / (right * wrong))
