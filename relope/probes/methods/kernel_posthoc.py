"""Kernel Post-Hoc: RBF kernel logistic regression on the answer's mean final-layer state and its confidence."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.confidence import answer_states, confidence_features
from relope.probes.examples import Examples
from relope.probes.kernel import KernelSettings, OnKernel

VERSION = 1


class Method(OnKernel):
    """P(correct) from about what ``posthoc`` reads: the answer's mean state beside the features of ``cascade-logprob``.

    Source: not in the paper; kernel logistic regression through Nyström landmarks (Williams and Seeger 2000).
    """

    name: ClassVar[str] = "kernel-posthoc"
    Params: ClassVar[type[KernelSettings]] = KernelSettings

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def features(self, examples: Examples) -> npt.NDArray[np.float32]:
        states = answer_states(examples, self.name)
        confidence = confidence_features(examples, self.name).astype(np.float32)
        return np.concatenate([states, confidence], axis=1)
