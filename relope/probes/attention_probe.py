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
from relope.probes import Examples, check_finite, check_trainable
from relope.probes._files import load_state, save_state
from relope.probes._heads import Standardize, from_numpy, initialize, mlp, seeded, to_numpy
from relope.probes._train import Training, inner_split, rank_auc, train
from relope.store import RaggedBatch, to_float32
from relope.types import Progress, no_progress

_KINDS = {"image": 1, "text": 0}
_STATISTICS_SAMPLES = 2048


class Settings(Training):
    """Settings of ``attention-probe``."""

    pool: Literal["all", "text", "image"] = "all"


class Net(nn.Module):
    """The pooling query and the MLP on what it pools.

    The tokens themselves are never standardised: scaling the query and the pooled vector with
    the training split's statistics is the same and touches B rows instead of ΣT.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.standardize = Standardize(width)
        self.head = mlp(width)

    def forward(self, tokens: Tensor, segment: Tensor, n: int) -> Tensor:
        """Return logits ``[n]`` of ragged tokens ``[ΣT, H]``; ``segment [ΣT]`` names their sample."""
        weights = self.weights(tokens, segment, n)
        pooled = tokens.new_zeros(n, tokens.shape[1]).index_add(0, segment, weights[:, None] * tokens)
        logits: Tensor = self.head(self.standardize(pooled))[:, 0]
        return logits

    def weights(self, tokens: Tensor, segment: Tensor, n: int) -> Tensor:
        """Return the attention weights ``[ΣT]``; those of one sample sum to 1."""
        scores = tokens @ (self.query * self.standardize.scale) / tokens.shape[1] ** 0.5
        highest = scores.new_full((n,), -torch.inf).scatter_reduce(0, segment, scores.detach(), "amax")
        raised = (scores - highest[segment]).exp()
        total = raised.new_zeros(n).index_add(0, segment, raised)
        found: Tensor = raised / total[segment]
        return found


class Method:
    """P(correct) = σ(MLP(Σ α_t h_t)), α = softmax(q·h_t / √d) over the prompt tokens of layer l-1.

    Source: ReLope §4.1 (learnable query, all tokens of layer l-1); the √d scaling is inferred.
    Choice: q starts at 0, which is mean pooling.
    """

    name: ClassVar[str] = "attention-probe"
    trains: ClassVar[bool] = True
    control: ClassVar[bool] = False
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer - 1,)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        labels = examples.labels
        inner, held = inner_split(examples.groups, labels > 0, self.params.inner_share, seed)
        fitted, validation = examples.take(inner), examples.take(held)
        self.net_ = Net(examples.store.manifest.hidden_size)
        initialize(self.net_, seeded(seed))
        self.net_.standardize.learn(self._pooled_start(fitted))
        truth = dict(zip(examples.rows.tolist(), labels.tolist(), strict=True))

        def loss(batch: RaggedBatch) -> Tensor:
            target = torch.tensor([truth[row] for row in batch.rows.tolist()])
            return F.binary_cross_entropy_with_logits(self._logits(fitted, batch), target)

        self.history_ = train(
            self.net_,
            [{"params": list(self.net_.parameters())}],
            lambda rng: self._batches(fitted, rng),
            loss,
            lambda: rank_auc(labels[held] > 0, self.predict_proba(validation)),
            self.params,
            seed,
            progress,
        )
        return self

    @torch.no_grad()
    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        self.net_.eval()
        found = [self._logits(examples, batch).sigmoid().numpy() for batch in self._batches(examples)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def save(self, folder: Path) -> None:
        width = len(self.net_.query)
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "width": width}
        save_state(folder, settings, to_numpy(self.net_))

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        found = cls(cls.Params(**settings["params"]))
        found.net_ = Net(settings["width"])
        from_numpy(found.net_, tensors)
        return found

    def _batches(self, examples: Examples, rng: np.random.Generator | None = None) -> Iterator[RaggedBatch]:
        return examples.store.batches(examples.layer - 1, examples.rows, size=self.params.batch, rng=rng)

    def _logits(self, examples: Examples, batch: RaggedBatch) -> Tensor:
        tokens, segment = self._tokens(examples, batch)
        logits: Tensor = self.net_(tokens, segment, len(batch.rows))
        return logits

    def _tokens(self, examples: Examples, batch: RaggedBatch) -> tuple[Tensor, Tensor]:
        """Return the tokens that are pooled ``[ΣT, H] float32`` and the sample of each ``[ΣT]``."""
        values = to_float32(batch.values, batch.dtype)
        segment = np.repeat(np.arange(len(batch.rows)), np.diff(batch.offsets))
        if self.params.pool != "all":
            keep = self._kinds(examples, batch.rows) == _KINDS[self.params.pool]
            values, segment = values[keep], segment[keep]
            if len(np.unique(segment)) < len(batch.rows):
                raise InvalidInputError(
                    f"pool={self.params.pool}: a sample has no {self.params.pool} tokens; use --set pool=all"
                )
        return torch.from_numpy(values), torch.from_numpy(segment)

    def _kinds(self, examples: Examples, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        column = examples.store.manifest.token_columns.index("kind")
        return examples.store.token_batch(rows)[0][:, column]

    def _pooled_start(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return token states of some training samples: their statistics standardise what is pooled."""
        some = examples.take(np.arange(min(len(examples), _STATISTICS_SAMPLES)))
        means = []
        for batch in self._batches(some):
            values = to_float32(batch.values, batch.dtype)
            check_finite(values, self.name, f"token states of layer {examples.layer - 1}")
            means.append(np.add.reduceat(values, batch.offsets[:-1]) / np.diff(batch.offsets)[:, None])
        return np.concatenate(means)
