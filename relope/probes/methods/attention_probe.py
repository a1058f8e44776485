"""Attention Probe: a learned query pools all prompt tokens of layer l-1."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relope.errors import InvalidInputError
from relope.probes.ahead import token_batches
from relope.probes.examples import Examples, check_finite, check_trainable
from relope.probes.files import check_shapes, load_state, save_state
from relope.probes.heads import Standardize, from_numpy, initialize, mlp, seeded, to_device, to_numpy
from relope.probes.pool import Pool, sample_weights
from relope.probes.protocol import Traits
from relope.probes.train import TrainSettings, inner_split, rank_auc, train
from relope.store import RaggedBatch
from relope.types import Progress, no_progress

VERSION = 2

_KINDS = {"image": 1, "text": 0}
_STATISTICS_SAMPLES = 2048


class Settings(TrainSettings):
    """Settings of ``attention-probe``."""

    pool: Literal["all", "text", "image"] = "all"
    norm: Literal["none", "rms"] = "none"
    last: bool = False


class Net(nn.Module):
    """The pooling query and the MLP on what it pools.

    The tokens themselves are never standardised: scaling the query and the pooled vector with
    the training split's statistics is the same and touches B rows instead of ΣT.
    """

    def __init__(self, width: int, norm: Literal["none", "rms"] = "none", last: bool = False) -> None:
        super().__init__()
        self.rms = norm == "rms"
        self.query = nn.Parameter(torch.zeros(width))
        self.standardize = Standardize(width)
        self.standardize_last = Standardize(width) if last else None
        self.head = mlp(2 * width if last else width)

    def forward(
        self, tokens: Tensor, bounds: list[int], keep: Tensor | None = None, last: Tensor | None = None
    ) -> Tensor:
        """Return logits ``[B]``.

        Args:
            tokens: ``[ΣT, H]`` ragged, with ``bounds`` and ``keep`` as `Pool.forward` takes them.
            bounds: where each sample begins.
            keep: tokens that may have weight.
            last: ``[B, H]`` of each sample's last token, where it stands beside the pooled state.
        """
        states = self.standardize(self.pooled(tokens, bounds, keep))
        if self.standardize_last is not None and last is not None:
            states = torch.cat([states, self.standardize_last(last)], dim=1)
        logits: Tensor = self.head(states)[:, 0]
        return logits

    def pooled(self, tokens: Tensor, bounds: list[int], keep: Tensor | None = None) -> Tensor:
        """Return ``[B, H]``: the weighted mean of each sample's tokens."""
        pooled: Tensor = Pool.apply(self._scaled(), tokens, bounds, keep, self.rms)
        return pooled

    def weights(self, states: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the attention weights ``[T]`` of one sample's tokens ``[T, H]``; they sum to 1."""
        query = self._scaled()
        return sample_weights(query, states.to(query.dtype), keep, self.rms)[0]

    def _scaled(self) -> Tensor:
        query: Tensor = self.query * self.standardize.scale / len(self.query) ** 0.5
        return query


class Method:
    """P(correct) = σ(MLP(Σ α_t h_t)), α = softmax(q·h_t / √d) over the prompt tokens of layer l-1.

    ``pool=image`` or ``text`` gives weight to one kind of token only; ``norm=rms`` divides each
    token by its root mean square, so that the few tokens of enormous norm that some models have
    do not drown the others. ``last=true`` puts layer l at the last token, which ``probe`` reads, beside the
    pooled state.

    Source: ReLope §4.1 (learnable query, all tokens of layer l-1); the √d scaling is inferred.
    Choice: q starts at 0, which is mean pooling; ``pool``, ``norm`` and ``last``.
    """

    name: ClassVar[str] = "attention-probe"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer - 1, layer) if self.params.last else (layer - 1,)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        labels = examples.labels
        inner, held = inner_split(examples.groups, labels > 0, self.params.inner_share, seed)
        fitted, validation = examples.take(inner), examples.take(held)
        self.net_ = Net(examples.store.manifest.hidden_size, self.params.norm, self.params.last)
        initialize(self.net_, seeded(seed))
        self.net_.to(examples.device)
        self.net_.standardize.learn(self._pooled_start(fitted))
        if self.net_.standardize_last is not None:
            states = examples.store.last(examples.layer, fitted.rows)
            check_finite(states, self.name, f"states of layer {examples.layer}")
            self.net_.standardize_last.learn(states)
        truth = np.zeros(len(examples.store), dtype=np.float32)
        truth[examples.rows] = labels

        def loss(batch: RaggedBatch) -> Tensor:
            logits = self._logits(fitted, batch)
            target = to_device(torch.from_numpy(truth[batch.rows]), logits.device)
            return F.binary_cross_entropy_with_logits(logits, target)

        self.history_ = train(
            self.net_,
            [{"params": list(self.net_.parameters())}],
            lambda rng: self._batches(fitted, rng),
            loss,
            lambda: rank_auc(labels[held] > 0, self.predict_proba(validation)),
            self.params,
            seed,
            progress,
            examples.state,
            examples.epoch_ended,
        )
        return self

    @torch.no_grad()
    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        self.net_.to(examples.device).eval()
        scores = [self._logits(examples, batch).sigmoid().cpu().numpy() for batch in self._batches(examples)]
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    @torch.no_grad()
    def token_weights(self, examples: Examples) -> list[npt.NDArray[np.float32]]:
        """Return the attention weights ``[T]`` of every prompt token, one array a sample.

        They sum to 1; tokens that ``pool`` leaves out have 0.
        """
        self.net_.cpu().eval()
        weights = []
        for batch in examples.store.batches(examples.layer - 1, examples.rows, size=1):
            keep = self._keep(examples, batch)
            weights.append(self.net_.weights(_tokens(batch), keep).numpy())
        return weights

    def save(self, folder: Path) -> None:
        width = len(self.net_.query)
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "width": width}
        save_state(folder, settings, to_numpy(self.net_))

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        check_shapes(folder, tensors, {"query": [settings["width"]]})
        probe.net_ = Net(settings["width"], probe.params.norm, probe.params.last)
        from_numpy(probe.net_, tensors)
        return probe

    def _batches(self, examples: Examples, rng: np.random.Generator | None = None) -> Iterator[RaggedBatch]:
        store, device, size = examples.store, examples.device, self.params.batch
        return token_batches(store, examples.layer - 1, examples.rows, size=size, device=device, rng=rng)

    def _logits(self, examples: Examples, batch: RaggedBatch) -> Tensor:
        last = None
        if self.params.last:
            states = torch.from_numpy(examples.store.last(examples.layer, batch.rows))
            last = to_device(states, examples.device)
        logits: Tensor = self.net_(*self._inputs(examples, batch), last)
        return logits

    def _inputs(self, examples: Examples, batch: RaggedBatch) -> tuple[Tensor, list[int], Tensor | None]:
        """Return what `Net.pooled` takes, on the device."""
        keep = self._keep(examples, batch)
        on_device = None if keep is None else to_device(keep, examples.device)
        return to_device(_tokens(batch), examples.device), batch.offsets.tolist(), on_device

    def _keep(self, examples: Examples, batch: RaggedBatch) -> Tensor | None:
        """Return which tokens may have weight ``[ΣT] bool``, or None for all."""
        if self.params.pool == "all":
            return None
        keep = self._kinds(examples, batch.rows) == _KINDS[self.params.pool]
        if not np.logical_or.reduceat(keep, batch.offsets[:-1]).all():
            raise InvalidInputError(
                f"pool={self.params.pool}: a sample has no {self.params.pool} tokens", hint="use --set pool=all"
            )
        return torch.from_numpy(keep)

    def _kinds(self, examples: Examples, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        column = examples.store.manifest.token_columns.index("kind")
        return examples.store.token_batch(rows)[0][:, column]

    @torch.no_grad()
    def _pooled_start(self, examples: Examples) -> Iterator[npt.NDArray[np.float32]]:
        """Yield what some training samples give before training; its statistics standardise later ones.

        They are spread evenly over all: where stores are joined, the first ones are all of one data set.
        """
        n = min(len(examples), _STATISTICS_SAMPLES)
        some = examples.take(np.arange(n) * len(examples) // n)
        for batch in self._batches(some):
            pooled = self.net_.pooled(*self._inputs(some, batch)).cpu().numpy()
            check_finite(pooled, self.name, f"token states of layer {examples.layer - 1}")
            yield pooled


def _tokens(batch: RaggedBatch) -> Tensor:
    """Return the tokens ``[ΣT, H]`` in their logical dtype, without a copy."""
    values = torch.from_numpy(batch.values)
    return values.view(torch.bfloat16) if batch.dtype == "bfloat16" else values
