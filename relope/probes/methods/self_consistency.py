"""Share of the largest cluster of sampled answers. Trains nothing; needs --samples."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples
from relope.probes.protocol import Params
from relope.probes.traces import FromTraces, StyleSettings, cluster_shares

VERSION = 1


class Method(FromTraces):
    """1 − uncertainty, where the uncertainty is 1 − the share of the largest answer cluster.

    Source: Wang et al. 2023, as cited by ReLope §5. Choice: the traces of the direct prompt, which
    is the prompt of the answer that is routed; clusters are equal parsed answers; an unparsed
    trace is a cluster of its own.
    """

    name: ClassVar[str] = "self-consistency"
    Params: ClassVar[type[Params]] = StyleSettings

    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        answers = self.answers(examples, self.params.style)
        return np.array([max(cluster_shares(traces), default=0.0) for traces in answers], dtype=np.float64)
