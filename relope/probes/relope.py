"""ReLope: LoRA in block l and a KL-regularised bottleneck on its last-token output."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from relope.errors import InvalidInputError
from relope.probes import Examples, check_finite, check_trainable
from relope.probes._files import load_state, save_state
from relope.probes._heads import Standardize, from_numpy, initialize, mlp, seeded, to_numpy
from relope.probes._lora import Adapter, attach, target_shapes
from relope.probes._replay import BlockReplay, PaddedBatch, read_batch
from relope.probes._train import Training, inner_split, rank_auc, train
from relope.types import Progress, no_progress


class Settings(Training):
    """Settings of ``relope``. Choice: all values; the paper does not state them."""

    lora_rank: int = Field(16, ge=1)
    lora_alpha: float = Field(32.0, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    lora_lr: float = Field(1e-4, gt=0)
    beta: float = Field(1e-3, ge=0)
    z: int = Field(256, ge=1)
    mode: Literal["cached", "truncated", "full"] = "cached"
    fast: bool = True


@dataclass(frozen=True)
class Batch:
    """Rows of the store ``[B]`` and, unless they are streamed, their padded layer l-1."""

    rows: npt.NDArray[np.int64]
    cached: PaddedBatch | None


class Bottleneck(nn.Module):
    """μ and log σ² of a Gaussian code z of ``[B, H]`` states, and an MLP on z.

    Source: ReLope §4.2. Choice: log σ² within ±10, its bias starts at −4, input standardised.
    """

    def __init__(self, width: int, z: int) -> None:
        super().__init__()
        self.standardize = Standardize(width)
        self.mean = nn.Linear(width, z)
        self.logvar = nn.Linear(width, z)
        self.head = mlp(z)

    def start(self, generator: torch.Generator) -> None:
        """Draw the parameters."""
        initialize(self, generator)
        nn.init.constant_(self.logvar.bias, -4.0)

    def forward(self, states: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits ``[B]`` and KL divergences ``[B]`` in nats; without noise z = μ."""
        x = self.standardize(states.float())
        mean, logvar = self.mean(x), self.logvar(x).clamp(-10, 10)
        code = mean if noise is None else mean + (0.5 * logvar).exp() * noise
        divergence = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(-1)
        logits: Tensor = self.head(code)[:, 0]
        return logits, divergence


class Learned(nn.Module):
    """All that is trained and saved: the bottleneck and the adapters (dots in names become ``/``)."""

    def __init__(self, bottleneck: Bottleneck, adapters: dict[str, Adapter]) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.adapters = nn.ModuleDict({name.replace(".", "/"): adapter for name, adapter in adapters.items()})

    def named_adapters(self) -> dict[str, Adapter]:
        """Return the adapters by the dotted names of the layers they belong to."""
        parts = {name.replace("/", "."): part for name, part in self.adapters.items()}
        return {name: part for name, part in parts.items() if isinstance(part, Adapter)}


class Method:
    """P(correct) = σ(MLP(μ(h̃_T))), h̃ = block l with LoRA on h^(l-1); loss BCE + β·KL.

    ``mode=cached`` replays block l from the store, ``truncated`` streams samples through blocks
    1…l, ``full`` through the whole backbone as the paper does. All three give the same loss and
    gradients. The adapter is a sidecar: answers always come from the unadapted model.

    Source: ReLope §4.2.
    """

    name: ClassVar[str] = "relope"
    trains: ClassVar[bool] = True
    control: ClassVar[bool] = False
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer - 1, layer)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        labels = examples.labels
        inner, held = inner_split(examples.groups, labels > 0, self.params.inner_share, seed)
        fitted, validation = examples.take(inner), examples.take(held)
        self._build(examples, seed)
        states = examples.store.last(examples.layer, fitted.rows)
        check_finite(states, self.name, f"states of layer {examples.layer}")
        self.learned_.bottleneck.standardize.learn(states)
        truth = np.zeros(len(examples.store), dtype=np.float32)
        truth[examples.rows] = labels
        noise = seeded(seed + 1)
        adapters, heads = self.learned_.adapters.parameters(), self.learned_.bottleneck.parameters()

        def loss(batch: Batch) -> Tensor:
            states = self._states(fitted, batch)
            drawn = torch.randn(len(states), self.params.z, generator=noise).to(states.device)
            logits, divergence = self.learned_.bottleneck(states, drawn)
            target = torch.from_numpy(truth[batch.rows]).to(states.device)
            found: Tensor = F.binary_cross_entropy_with_logits(logits, target) + self.params.beta * divergence.mean()
            return found

        with torch.random.fork_rng(devices=_cuda(examples.device)):
            torch.manual_seed(seed + 2)  # dropout draws from the default generator
            self.history_ = train(
                self.learned_,
                [{"params": list(heads)}, {"params": list(adapters), "lr": self.params.lora_lr}],
                lambda rng: self._batches(fitted, rng.permutation(len(fitted))),
                loss,
                lambda: rank_auc(labels[held] > 0, self.predict_proba(validation)),
                self.params,
                seed,
                progress,
            )
        return self

    @torch.no_grad()
    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        if not hasattr(self, "replay_"):
            self._open(examples)
        self.learned_.eval()
        found = []
        for batch in self._batches(examples, np.arange(len(examples))):
            logits, _ = self.learned_.bottleneck(self._states(examples, batch), None)
            found.append(logits.sigmoid().cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), **self.shape_}
        save_state(folder, settings, to_numpy(self.learned_))

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        found = cls(cls.Params(**settings["params"]))
        found.shape_ = {name: settings[name] for name in ("width", "layer", "linears")}
        found._assemble(seed=0)
        from_numpy(found.learned_, tensors)
        return found

    def _build(self, examples: Examples, seed: int) -> None:
        """Read the block's shape from the store and draw the parameters."""
        replay = BlockReplay.open(examples.store, examples.layer, examples.device)
        self.shape_: dict[str, Any] = {
            "width": examples.store.manifest.hidden_size,
            "layer": examples.layer,
            "linears": target_shapes(replay.block),
        }
        self._assemble(seed)
        self._open(examples, replay)

    def _assemble(self, seed: int) -> None:
        generator, p = seeded(seed), self.params
        bottleneck = Bottleneck(self.shape_["width"], p.z)
        bottleneck.start(generator)
        adapters = {
            name: Adapter(width_in, width_out, p.lora_rank, p.lora_alpha, p.lora_dropout, generator)
            for name, (width_in, width_out) in self.shape_["linears"].items()
        }
        self.learned_ = Learned(bottleneck, adapters)

    def _open(self, examples: Examples, replay: BlockReplay | None = None) -> None:
        """Put the adapters beside the store's block."""
        if examples.layer != self.shape_["layer"]:
            raise InvalidInputError(
                f"this router was fitted at layer {self.shape_['layer']}, not {examples.layer}; give --layer "
                f"{self.shape_['layer']}"
            )
        self.replay_ = replay or BlockReplay.open(examples.store, examples.layer, examples.device)
        self.learned_.to(examples.device)
        adapters = self.learned_.named_adapters()
        self.adapted_ = attach(self.replay_.block, adapters)

    def _batches(self, examples: Examples, order: npt.NDArray[np.int64]) -> Iterator[Batch]:
        """Yield batches of examples in an order, with the cached layer l-1 unless it is streamed."""
        rows, size = examples.rows[order], self.params.batch
        if self.params.mode == "cached":
            for ragged in examples.store.batches(examples.layer - 1, rows, size=size):
                yield Batch(ragged.rows, read_batch(examples.store, ragged, examples.device))
        else:
            for start in range(0, len(rows), size):
                yield Batch(rows[start : start + size], None)

    def _states(self, examples: Examples, batch: Batch) -> Tensor:
        """Return h̃_T ``[B, H]``: replayed from the cache, or streamed through the backbone."""
        if batch.cached is not None:
            return self.replay_.last_states(batch.cached, self.adapted_, fast=self.params.fast)
        if examples.streams is None:
            raise InvalidInputError(f"mode={self.params.mode} needs the backbone; run it through `relope fit`")
        ids = examples.store.samples[batch.rows]["id"].to_list()
        stop = self.params.mode == "truncated"
        found: Tensor = examples.streams.last_states(ids, self.adapted_, examples.layer, stop=stop)
        return found


def _cuda(device: str) -> list[torch.device]:
    """Return the devices whose random state training moves besides the CPU's."""
    return [torch.device(device)] if device.startswith("cuda") else []
