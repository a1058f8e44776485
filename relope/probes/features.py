"""A head on one fixed feature vector a sample: what ``probe`` and ``posthoc`` share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relope.probes.examples import Examples, check_trainable
from relope.probes.files import check_shapes, load_state, save_state
from relope.probes.heads import MLP_WIDTHS, Standardize, from_numpy, initialize, mlp, seeded, to_device, to_numpy
from relope.probes.protocol import Traits
from relope.probes.resume import History
from relope.probes.train import TrainSettings, inner_split, minibatches, rank_auc, train
from relope.types import Progress, no_progress

Head = Literal["mlp", "logistic"]


class FeatureNet:
    """Standardisation and an MLP (or logistic) head over ``[N, width] float32``."""

    def __init__(self, width: int, head: Head, seed: int) -> None:
        self.width = width
        self.module = nn.Sequential(Standardize(width), mlp(width, MLP_WIDTHS if head == "mlp" else ()))
        initialize(self.module, seeded(seed))

    @classmethod
    def restore(cls, width: int, head: Head, tensors: dict[str, npt.NDArray[np.float32]]) -> Self:
        """Rebuild a fitted net from ``tensors``."""
        net = cls(width, head, 0)
        from_numpy(net.module, tensors)
        net.module.eval()
        return net

    def fit(
        self,
        features: npt.NDArray[np.float32],
        examples: Examples,
        settings: TrainSettings,
        seed: int,
        progress: Progress,
    ) -> History:
        """Train on ``[N, width]`` features of labelled examples."""
        labels = examples.labels
        inner, held = inner_split(examples.groups, labels > 0, settings.inner_share, seed)
        standardize = self.module[0]
        assert isinstance(standardize, Standardize)
        standardize.learn(features[inner])
        self.module.to(examples.device)
        x, y = (to_device(torch.from_numpy(values[inner]), examples.device) for values in (features, labels))
        return train(
            self.module,
            [{"params": list(self.module.parameters())}],
            lambda rng: (torch.from_numpy(indices) for indices in minibatches(len(x), settings.batch, rng)),
            lambda indices: self._loss(x[indices], y[indices]),
            lambda: rank_auc(labels[held] > 0, self.predict(features[held])),
            settings,
            seed,
            progress,
            examples.state,
            examples.epoch_ended,
        )

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.module(x)[:, 0], y)

    @torch.no_grad()
    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``[N] float32`` probabilities."""
        device = next(self.module.parameters()).device
        logits = self.module(to_device(torch.from_numpy(features), device))[:, 0]
        scores: npt.NDArray[np.float32] = logits.sigmoid().cpu().numpy()
        return scores

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what ``restore`` needs."""
        return to_numpy(self.module)


class OnFeatures(ABC):
    """Base of the methods that put such a head on ``features``."""

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits()
    Params: ClassVar[type[Any]]
    head: Head = "mlp"

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N, width]``, finite."""

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        features = self.features(examples)
        self.net_ = FeatureNet(features.shape[1], self.head, seed)
        self.history_ = self.net_.fit(features, examples, self.params, seed, progress)
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.net_.predict(self.features(examples))

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), "width": self.net_.width}
        save_state(folder, settings, self.net_.tensors())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        check_shapes(folder, tensors, {"0.mean": [settings["width"]]})
        probe.net_ = FeatureNet.restore(settings["width"], probe.head, tensors)
        return probe
