"""ReLope: LoRA in block l and a KL-regularised bottleneck on its last-token output."""

from collections.abc import Iterator
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
from relope.probes._replay import BlockReplay, read_batch, stacked
from relope.probes._train import Training, inner_split, minibatches, rank_auc, train
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
        return self.head(code)[:, 0], divergence


class Learned(nn.Module):
    """All that is trained and saved: the bottleneck and the adapters (dots in names become ``/``)."""

    def __init__(self, bottleneck: Bottleneck, adapters: dict[str, Adapter]) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.adapters = nn.ModuleDict({name.replace(".", "/"): adapter for name, adapter in adapters.items()})


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
        noise, dropout = seeded(seed + 1), torch.random.fork_rng()
        adapters, heads = self.learned_.adapters.parameters(), self.learned_.bottleneck.parameters()

        def loss(places: npt.NDArray[np.int64]) -> Tensor:
            batch = fitted.take(places)
            states = self._states(batch)
            drawn = torch.randn(len(batch), self.params.z, generator=noise).to(states.device)
            logits, divergence = self.learned_.bottleneck(states, drawn)
            target = torch.from_numpy(batch.labels).to(states.device)
            return F.binary_cross_entropy_with_logits(logits, target) + self.params.beta * divergence.mean()

        with dropout:
            torch.manual_seed(seed + 2)
            self.history_ = train(
                self.learned_,
                [{"params": list(heads)}, {"params": list(adapters), "lr": self.params.lora_lr}],
                lambda rng: minibatches(len(fitted), self.params.batch, rng),
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
        for places in self._in_order(len(examples)):
            logits, _ = self.learned_.bottleneck(self._states(examples.take(places)), None)
            found.append(logits.sigmoid().cpu().numpy())
        return stacked(found)

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

    def _in_order(self, n: int) -> Iterator[npt.NDArray[np.int64]]:
        for start in range(0, n, self.params.batch):
            yield np.arange(start, min(n, start + self.params.batch))

    def _build(self, examples: Examples, seed: int) -> None:
        """Read the block's shape from the store and draw the parameters."""
        replay = BlockReplay.open(examples.store, examples.layer, examples.device)
        self.shape_ = {
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
        adapters = {name.replace("/", "."): part for name, part in self.learned_.adapters.items()}
        self.adapted_ = attach(self.replay_.block, adapters)

    def _states(self, examples: Examples) -> Tensor:
        """Return h̃_T ``[B, H]``: cached, or streamed through the backbone."""
        if self.params.mode != "cached":
            if examples.streams is None:
                raise InvalidInputError(f"mode={self.params.mode} needs the backbone; run it through `relope fit`")
            ids = examples.table["id"].to_list()
            stop = self.params.mode == "truncated"
            found: Tensor = examples.streams.last_states(ids, self.adapted_, examples.layer, stop=stop)
            return found
        batches = examples.store.batches(examples.layer - 1, examples.rows, size=len(examples))
        padded = read_batch(examples.store, next(batches), examples.device)
        return self.replay_.last_states(padded, self.adapted_, fast=self.params.fast)
