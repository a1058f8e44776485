"""Kernel Probe: RBF kernel logistic regression on the last prompt token's hidden state of layer l."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples, check_finite
from relope.probes.kernel import KernelSettings, OnKernel
from relope.probes.protocol import Traits

VERSION = 1


class Method(OnKernel):
    """P(correct) from what ``probe`` reads, by a fit that a few thousand samples do not lead astray.

    Source: not in the paper; kernel logistic regression through Nyström landmarks (Williams and Seeger 2000).
    """

    name: ClassVar[str] = "kernel-probe"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[KernelSettings]] = KernelSettings

    def layers(self, layer: int) -> tuple[int, ...]:
        return (layer,)

    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        states = examples.store.last(examples.layer, examples.rows)
        check_finite(states, self.name, f"states of layer {examples.layer}")
        return states
