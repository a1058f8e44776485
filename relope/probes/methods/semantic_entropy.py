"""Entropy over the clusters of sampled answers. Trains nothing; needs --samples."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples
from relope.probes.protocol import Params
from relope.probes.traces import FromTraces, StyleSettings, cluster_shares

VERSION = 1


class Method(FromTraces):
    """exp(−H), H = −Σ_c p_c log p_c in nats over clusters of equal parsed answers.

    The order is that of the discrete semantic entropy, turned round; exp brings it into 0–1.

    Source: Kuhn et al. 2023 and Farquhar et al. 2024 (discrete variant), as cited by ReLope §5.
    Choice: p_c is the share of the traces; an unparsed trace is a cluster of its own.
    """

    name: ClassVar[str] = "semantic-entropy"
    Params: ClassVar[type[Params]] = StyleSettings

    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        answers = self.answers(examples, self.params.style)
        return np.array([_certainty(cluster_shares(traces)) for traces in answers], dtype=np.float64)


def _certainty(shares: list[float]) -> float:
    """Return exp(−H); 0 without a trace."""
    if not shares:
        return 0.0
    p = np.array(shares)
    return float(min(np.exp((p * np.log(p)).sum()), 1.0))
