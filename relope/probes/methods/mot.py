"""MoT: do sampled answers of two prompt styles agree? Trains nothing; needs --samples."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples
from relope.probes.protocol import Params
from relope.probes.traces import FromTraces, majority

VERSION = 1


class Settings(Params):
    """Settings of ``mot``."""

    variant: Literal["vote", "verify"] = "vote"


class Method(FromTraces):
    """Mixture of thought: K traces with a direct prompt and K with a chain-of-thought prompt.

    ``variant=vote``: the share of the majority answer among all 2K traces. Unparsed traces stay
    in the denominator, so an answer that is rarely readable is never certain.
    ``variant=verify``: 1 where the majority answers of the two styles are equal, else 0.

    Source: Yue et al. 2023 (MoT-2D), as compared in ReLope §5. Choice: a tie goes to the answer
    sampled first; where no trace could be parsed the score is 0.
    """

    name: ClassVar[str] = "mot"
    Params: ClassVar[type[Params]] = Settings

    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        both = zip(self.answers(examples, "direct"), self.answers(examples, "chain"), strict=True)
        rule = _vote if self.params.variant == "vote" else _verify
        return np.array([rule(direct, chain) for direct, chain in both], dtype=np.float64)


def _vote(direct: list[str], chain: list[str]) -> float:
    return majority([*direct, *chain])[1] / max(len(direct) + len(chain), 1)


def _verify(direct: list[str], chain: list[str]) -> float:
    first, _ = majority(direct)
    second, _ = majority(chain)
    return float(first == second != "")
