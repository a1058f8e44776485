"""One training loop for every trained head: AdamW, early stopping on an inner validation AUC."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from relope.errors import InvalidInputError
from relope.probes.examples import untold
from relope.probes.parallel import ALONE, World
from relope.probes.protocol import Params
from relope.probes.resume import Checkpoint, History
from relope.provenance import digest
from relope.types import Progress

T = TypeVar("T")


class TrainSettings(Params):
    """Settings of every trained head. Choice: the paper states AdamW only.

    With ``members`` above 1 a router is the mean of so many fits (`relope.probes.ensemble`); each of them has 1.
    """

    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(64, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(5, ge=1)
    inner_share: float = Field(0.15, gt=0, lt=1)
    members: int = Field(1, ge=1)


def inner_split(
    groups: npt.NDArray[np.str_], correct: npt.NDArray[np.bool_], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split training samples by group into (fit, validation) indices.

    Groups are drawn at random until the validation side holds ``share`` of the samples and both
    classes; a group is never cut, and none is taken that leaves the other side without a class.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.zeros(len(names), dtype=bool)
    target, taken = share * len(groups), 0
    right = np.bincount(inverse, correct).astype(np.int64)
    left = np.array([right.sum(), len(groups) - right.sum()])
    for name in order[:-1]:
        enough = taken >= target and len(np.unique(correct[held[inverse]])) == 2
        if enough:
            break
        of_group = np.array([right[name], counts[name] - right[name]])
        if (left > 0).all() and not (left > of_group).all():
            continue
        held[name] = True
        left -= of_group
        taken += int(counts[name])
    inside = held[inverse]
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def minibatches(n: int, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yield shuffled indices 0…n-1 in batches."""
    order = rng.permutation(n)
    for start in range(0, n, size):
        yield order[start : start + size]


def train(
    module: nn.Module,
    groups: Iterable[dict[str, object]],
    epoch: Callable[[np.random.Generator], Iterable[T]],
    loss_of: Callable[[T], Tensor],
    validate: Callable[[], float],
    settings: TrainSettings,
    seed: int,
    progress: Progress,
    state: Path | None = None,
    epoch_ended: Callable[[int, float, float], None] = untold,
    together: World = ALONE,
) -> History:
    """Train until the inner validation AUC has not risen for ``patience`` epochs.

    Args:
        module: what is trained; ends with the weights of its best epoch.
        groups: parameter groups for AdamW.
        epoch: rng → the batches of one epoch.
        loss_of: batch → scalar loss; under ``torchrun`` this process's part of the batch's loss.
        validate: returns the inner validation AUC.
        settings: rates and bounds.
        seed: with an epoch's number it decides the batches and every other random number in it.
        progress: told the epochs done and allowed.
        state: where the state of an unfinished fit is kept; what is there is gone on from.
        epoch_ended: told every epoch's number, loss and inner validation AUC, those of an unfinished fit first.
        together: the processes whose batches are shares of one; a fit that computes each batch whole is alone.

    Raises:
        InvalidInputError: the loss is no longer a number.
    """
    optimizer = torch.optim.AdamW(list(groups), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    checkpoint = Checkpoint(state, _key(module, settings, seed))
    history, kept = checkpoint.read(module, optimizer)
    for number, (loss, auc) in enumerate(zip(history.loss, history.auc, strict=True), 1):
        epoch_ended(number, loss, auc)
    while len(history.auc) < settings.epochs and not (history.auc and history.stale(settings.patience)):
        number = len(history.auc)
        with _own_randomness(module, (seed, number, together.rank)):
            module.train()
            history.loss.append(_one_epoch(optimizer, epoch(np.random.default_rng((seed, number))), loss_of, together))
            module.eval()
        _check_loss(history, settings)
        history.auc.append(validate())
        if history.best < 0 or history.auc[-1] > history.auc[history.best]:
            history.best = number
            kept = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        if together.rank == 0:
            checkpoint.write(module, optimizer, history, kept)
        epoch_ended(number + 1, history.loss[-1], history.auc[-1])
        progress(number + 1, settings.epochs)
    module.load_state_dict(kept)
    module.eval()
    progress(settings.epochs, settings.epochs)
    return history


def _key(module: nn.Module, settings: TrainSettings, seed: int) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    return digest([shapes, settings.model_dump(), seed])


def _one_epoch(
    optimizer: torch.optim.Optimizer, batches: Iterable[T], loss_of: Callable[[T], Tensor], together: World
) -> float:
    """Take one step a batch; return the mean loss."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    total, n = torch.zeros(1), 0
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        together.sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        total, n = total.to(loss.device) + loss.detach(), n + 1
    return float(together.sum(total.cpu().numpy(), str(total.device))[0]) / max(n, 1)


@contextmanager
def _own_randomness(module: nn.Module, seeds: tuple[int, ...]) -> Iterator[None]:
    """Seed the default generators, which dropout draws from, and put them back afterwards."""
    devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        yield


def _check_loss(history: History, settings: TrainSettings) -> None:
    if not np.isfinite(history.loss[-1]):
        raise InvalidInputError(
            f"the loss of epoch {len(history.loss)} is {history.loss[-1]}: the states hold NaN or infinity, or "
            f"lr={settings.lr:g} is too high",
            hint="lower it with --set lr=…, or extract again with --dtype bfloat16",
        )


def rank_auc(correct: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Return the ROC-AUC by mid-ranks, 0.5 when one class is absent (for early stopping only)."""
    from scipy.stats import rankdata

    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[correct].sum() - right * (right + 1) / 2) / (right * wrong))
