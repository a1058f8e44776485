"""Probe: a five-layer MLP on the last prompt token's hidden state of layer l."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples, check_finite
from relope.probes.features import Head, OnFeatures
from relope.probes.protocol import Traits
from relope.probes.train import TrainSettings

VERSION = 1


class Settings(TrainSettings):
    """Settings of ``probe``; ``head=logistic`` gives the linear probe."""

    head: Head = "mlp"


class Method(OnFeatures):
    """P(correct) = σ(MLP(h^(l)_T)), trained with binary cross-entropy.

    Source: ReLope §3 (five-layer MLP). Choice: widths 512-256-128-64, ReLU, standardised input.
    """

    name: ClassVar[str] = "probe"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        super().__init__(params)
        self.head = params.head

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer,)

    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        states = examples.store.last(examples.layer, examples.rows)
        check_finite(states, self.name, f"states of layer {examples.layer}")
        return states
