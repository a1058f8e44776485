"""ReLope: LoRA in block l and a KL-regularised bottleneck on its last-token output."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from relope.errors import InvalidInputError
from relope.locations import named, names_only
from relope.probes.block_output import Batch, replayed, stored, streamed
from relope.probes.bottleneck import Bottleneck, Learned
from relope.probes.examples import Examples, Streams, check_finite, check_trainable
from relope.probes.export import write_peft
from relope.probes.files import check_shapes, load_state, save_state
from relope.probes.heads import from_numpy, seeded, to_device, to_numpy
from relope.probes.lora import Adapter, attach, module_name, target_shapes
from relope.probes.parallel import World, world
from relope.probes.protocol import BlockUse, Traits
from relope.probes.replay import BlockReplay
from relope.probes.train import TrainSettings, inner_split, rank_auc, train
from relope.types import Progress, no_progress

VERSION = 2

_PIECE = 4096
"""Rows of the store that are looked at together for statistics."""


class Settings(TrainSettings):
    """Settings of ``relope``. Choice: all values; the paper does not state them.

    ``lora_lr`` is the better of 1e-3 and 1e-4 out of fold on both testbeds (docs/methods.md), within their intervals.
    ``lora=false`` leaves the bottleneck alone, on the cached layer l; ``fast=false`` computes the
    whole block and not its last token alone; ``frozen`` is the number type that the replayed block
    is computed in (``auto``: as the store was made). Batches that are streamed have 16 samples
    unless ``batch`` says otherwise.
    """

    lora: bool = True
    lora_rank: int = Field(16, ge=1)
    lora_alpha: float = Field(32.0, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    lora_lr: float = Field(1e-3, gt=0)
    beta: float = Field(1e-3, ge=0)
    z: int = Field(256, ge=1)
    mode: Literal["cached", "truncated", "full"] = "cached"
    fast: bool = True
    frozen: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _small_streamed_batches(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"batch": 16, **given} if given.get("mode", "cached") != "cached" else given


class Method:
    """P(correct) = σ(MLP(μ(h̃_T))), h̃ = block l with LoRA on h^(l-1); loss BCE + β·KL.

    ``mode=cached`` replays block l from the store, ``truncated`` streams samples through blocks
    1…l, ``full`` through the whole backbone as the paper does. All three give the same loss and
    gradients. The adapter is a sidecar: answers always come from the unadapted model.

    Source: ReLope §4.2.
    """

    name: ClassVar[str] = "relope"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params
        self.opened_: tuple[str, ...] | None = None

    @property
    def block_use(self) -> BlockUse:
        """How block l is run; without LoRA it is not, whatever the mode."""
        if not self.params.lora:
            return "none"
        return "replayed" if self.params.mode == "cached" else "streamed"

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer - 1, layer) if self.params.lora else (layer,)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        labels = examples.labels
        inner, held = inner_split(examples.groups, labels > 0, self.params.inner_share, seed)
        fitted, validation = examples.take(inner), examples.take(held)
        self._build(examples, seed)
        self.learned_.bottleneck.standardize.learn(self._pieces(fitted))
        truth = np.zeros(len(examples.store), dtype=np.float32)
        truth[examples.rows] = labels
        noise = torch.Generator()

        def epoch(rng: np.random.Generator) -> Iterator[Batch]:
            noise.manual_seed(int(rng.integers(2**62)))
            return self._batches(fitted, rng.permutation(len(fitted)), world())

        def loss(batch: Batch) -> Tensor:
            drawn = torch.randn(batch.of, self.params.z, generator=noise)[batch.mine]
            return self._loss(batch, drawn, truth[batch.rows])

        self.history_ = train(
            self.learned_,
            [
                {"params": list(self.learned_.bottleneck.parameters())},
                {"params": list(self.learned_.adapters.parameters()), "lr": self.params.lora_lr},
            ],
            epoch,
            loss,
            lambda: rank_auc(labels[held] > 0, self.predict_proba(validation)),
            self.params,
            seed,
            progress,
            examples.state,
            examples.epoch_ended,
            world(),
        )
        return self

    @torch.no_grad()
    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        self._open(examples)
        if self.learned_.training:
            self.learned_.eval()
        together, scores, start = world(), np.zeros(len(examples), np.float32), 0
        for batch in self._batches(examples, np.arange(len(examples)), together):
            if len(batch.rows):
                logits, _ = self.learned_.bottleneck(batch.states(), None)
                scores[start + batch.mine] = logits.sigmoid().cpu().numpy()
            start += batch.of
        return together.sum(scores, examples.device)

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {"method": self.name, "params": self.params.model_dump(), **self.shape_}
        save_state(folder, settings, to_numpy(self.learned_))

    def export(self, folder: Path) -> int:
        """Write a PEFT adapter folder with the head beside it; return its number of adapter tensors."""
        return write_peft(self.learned_, self.params, self.shape_, folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        probe.shape_ = {name: settings[name] for name in ("width", "layer", "linears", "module")}
        probe.shape_["base"] = names_only(settings["base"])
        rank, shapes = probe.params.lora_rank, {"bottleneck.mean.weight": [probe.params.z, settings["width"]]}
        for name, (width_in, width_out) in settings["linears"].items():
            adapter = f"adapters.{name.replace('.', '/')}"
            shapes |= {f"{adapter}.down": [rank, width_in], f"{adapter}.up": [width_out, rank]}
        check_shapes(folder, tensors, shapes)
        probe._assemble(seed=0)
        from_numpy(probe.learned_, tensors)
        return probe

    def _loss(self, batch: Batch, noise: Tensor, truth: npt.NDArray[np.float32]) -> Tensor:
        """Return BCE + β·KL, this process's part of the mean over the whole batch."""
        if not len(batch.rows):
            return torch.zeros((), requires_grad=True)
        states = batch.states()
        logits, divergence = self.learned_.bottleneck(states, to_device(noise, states.device))
        target = to_device(torch.from_numpy(truth), states.device)
        loss: Tensor = F.binary_cross_entropy_with_logits(logits, target) + self.params.beta * divergence.mean()
        return loss * (len(batch.rows) / batch.of)

    def _pieces(self, examples: Examples) -> Iterator[npt.NDArray[np.float32]]:
        """Yield layer l at the last token of every sample, some at a time."""
        for start in range(0, len(examples), _PIECE):
            states = examples.store.last(examples.layer, examples.rows[start : start + _PIECE])
            check_finite(states, self.name, f"states of layer {examples.layer}")
            yield states

    def _build(self, examples: Examples, seed: int) -> None:
        """Read the block's shape and draw the parameters."""
        recorded = examples.store.manifest.recorded
        self.shape_: dict[str, Any] = {
            "width": examples.store.manifest.hidden_size,
            "layer": examples.layer,
            "linears": {},
            "module": "",
            "base": {"source": named(str(recorded.get("source", ""))), "revision": recorded.get("revision", "")},
        }
        if self.params.lora:
            model, block = self._block(examples)
            self.shape_ |= {"linears": target_shapes(block), "module": module_name(model, examples.layer)}
        self._assemble(seed)
        self._open(examples)

    def _assemble(self, seed: int) -> None:
        generator, p = seeded(seed), self.params
        bottleneck = Bottleneck(self.shape_["width"], p.z)
        bottleneck.start(generator)
        adapters = {
            name: Adapter(width_in, width_out, p.lora_rank, p.lora_alpha, p.lora_dropout, generator)
            for name, (width_in, width_out) in self.shape_["linears"].items()
        }
        self.learned_, self.opened_ = Learned(bottleneck, adapters), None

    def _open(self, examples: Examples) -> None:
        """Put the adapters beside the store's block, or the streamed model's, unless it is done."""
        if examples.layer != self.shape_["layer"]:
            raise InvalidInputError(f"this router was fitted at layer {self.shape_['layer']}, not {examples.layer}")
        wanted = (self.params.mode, self.params.frozen, examples.device)
        if self.opened_ == wanted:
            return
        self.learned_.to(examples.device)
        self.adapted_: nn.Module | None = None
        if self.params.lora:
            self.adapted_ = attach(self._block(examples)[1], self.learned_.named_adapters())
        self.opened_ = wanted

    def _block(self, examples: Examples) -> tuple[Any, nn.Module]:
        """Return the model (without weights, when replayed) and its frozen block l."""
        if self.params.mode == "cached":
            self.replay_ = BlockReplay.open(examples.store, examples.layer, examples.device, self.params.frozen)
            return self.replay_.skeleton, self.replay_.block
        model = self._streams(examples).model
        return model, model.get_decoder().layers[examples.layer - 1]

    def _streams(self, examples: Examples) -> Streams:
        if examples.streams is None:
            raise InvalidInputError(
                f"relope in mode={self.params.mode} runs samples through the backbone, and none is given",
                hint="`relope fit` and `relope predict` open it",
            )
        return examples.streams

    def _batches(self, examples: Examples, order: npt.NDArray[np.int64], together: World) -> Iterator[Batch]:
        """Yield this process's share of each batch of examples, in an order."""
        rows, size, mode = examples.rows[order], self.params.batch, self.params.mode
        if self.adapted_ is None:
            return stored(examples, rows, size, together)
        if mode == "cached":
            return replayed(examples, rows, size, self.replay_, self.adapted_, self.params.fast)
        return streamed(
            examples, rows, size, together, self._streams(examples), self.adapted_, stop=mode == "truncated"
        )
