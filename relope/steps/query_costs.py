"""What each query of a store costs on the small and on the large model, by the tokens that were counted."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import registry
from relope.evaluate.numbers.costs import Costs, PriceList, cost_of
from relope.probes.protocol import method_class
from relope.store import ActivationStore


def query_costs(
    store: ActivationStore,
    samples: pl.DataFrame,
    large: ActivationStore | None,
    prices: PriceList,
    methods: Mapping[str, str],
) -> Costs:
    """Return the costs of samples; without a store of the large model its costs are unknown.

    Args:
        store: of the small model.
        samples: ``[N]`` rows of it.
        large: store of the large model, which has them too.
        prices: of both.
        methods: what a report calls a method → its CLI name.
    """
    own, (prompt, answer) = prices.models.get(store.manifest.recorded["model"]), _tokens(samples)
    small, prefill = cost_of(own, prompt, answer), cost_of(own, prompt, np.zeros_like(answer))
    theirs, asked = None, samples
    if large is not None:
        theirs = prices.models.get(large.manifest.recorded["model"])
        asked = samples.select("id").join(large.samples, on="id", how="left", maintain_order="left")
    known = set(registry.names("methods"))
    traits = {name: method_class(method).traits for name, method in methods.items() if method in known}
    return Costs(
        small,
        prefill,
        cost_of(theirs, *_tokens(asked)),
        before_answer=frozenset(name for name, of_method in traits.items() if not of_method.reads_answer),
    )


def _tokens(samples: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return prompt and answer tokens of each sample."""
    return samples["n_tokens"].to_numpy(), samples["token_ids"].list.len().cast(pl.Int64).to_numpy()
