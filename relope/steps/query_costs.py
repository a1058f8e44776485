"""What each query of a store costs on the small and on the large model, by the tokens that were counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import registry
from relope.evaluate.numbers.costs import Axis, Costs, ModelCost, PriceList, cost_of
from relope.evaluate.numbers.metrics import Floats
from relope.probes.protocol import method_class
from relope.store import ActivationStore

Counts = npt.NDArray[np.int64]
Asked = Mapping[str, tuple[str, Mapping[str, Any]]]
"""What a report calls a method → its CLI name and settings."""


def query_costs(
    store: ActivationStore, samples: pl.DataFrame, large: ActivationStore | None, prices: PriceList, methods: Asked
) -> Costs:
    """Return the costs of samples; without a store of the large model its costs are unknown.

    Args:
        store: of the small model.
        samples: ``[N]`` rows of it.
        large: store of the large model, which has them too.
        prices: of both.
        methods: what is reported.
    """
    own = prices.models.get(store.manifest.recorded["model"])
    known = set(registry.names("methods"))
    traits = {name: method_class(method).traits for name, (method, _) in methods.items() if method in known}
    beside = {name: _beside(own, samples, traits[name].needs, methods[name][1]) for name in traits}
    return Costs(
        model_costs(own, samples),
        _prefill(own, samples),
        _large_costs(samples, large, prices),
        before_answer=frozenset(name for name, of_method in traits.items() if not of_method.reads_answer),
        beside={name: costs for name, costs in beside.items() if costs is not None},
    )


def _large_costs(samples: pl.DataFrame, large: ActivationStore | None, prices: PriceList) -> dict[Axis, Floats | None]:
    if large is None:
        return cost_of(None, _zeros(samples), _zeros(samples))
    theirs = prices.models.get(large.manifest.recorded["model"])
    return model_costs(theirs, samples.select("id").join(large.samples, on="id", how="left", maintain_order="left"))


@dataclass(frozen=True)
class _Tokens:
    """``[N]`` tokens of each sample; None where those of one are not known."""

    prompt: Counts | None
    answer: Counts | None
    cached: Counts


def _tokens_of(samples: pl.DataFrame) -> _Tokens:
    """Return what was counted: by whoever answered, else by the states and the tokens that a store keeps."""
    names = set(samples.columns)
    prompt = [pl.col("prompt_tokens")] if "prompt_tokens" in names else []
    prompt += [pl.when(pl.col("n_tokens") > 0).then(pl.col("n_tokens"))] if "n_tokens" in names else []
    answer = [pl.col("completion_tokens")] if "completion_tokens" in names else []
    answer += [pl.col("token_ids").list.len()] if "token_ids" in names else []
    cached = [pl.col("cached_tokens")] if "cached_tokens" in names else []
    columns = {"prompt": prompt, "answer": answer, "cached": [*cached, pl.lit(0)]}
    counted = samples.select(pl.coalesce(some).cast(pl.Int64).alias(name) for name, some in columns.items() if some)
    told = {name: counted[name].to_numpy() for name in counted.columns if not counted[name].null_count()}
    return _Tokens(told.get("prompt"), told.get("answer"), told["cached"])


def model_costs(cost: ModelCost | None, samples: pl.DataFrame) -> dict[Axis, Floats | None]:
    """Return what a model's answers cost, by axis; None where that of one is unknown.

    Dollars are by the price list, else what was paid; seconds are by the price list, else what was measured.

    Args:
        cost: of the model, as the price list has it; None where it has nothing.
        samples: ``[N]`` rows of its store.
    """
    tokens = _tokens_of(samples)
    costs: dict[Axis, Floats | None] = {"dollars": None, "latency": None}
    if tokens.answer is not None:
        prompt = _zeros(samples) if tokens.prompt is None else tokens.prompt
        costs = cost_of(cost, prompt, tokens.answer, tokens.cached)
        costs["dollars"] = None if tokens.prompt is None else costs["dollars"]
    measured: dict[Axis, str] = {"dollars": "cost_usd", "latency": "latency_s"}
    for axis, column in measured.items():
        if costs[axis] is None and column in samples.columns and not samples[column].null_count():
            costs[axis] = samples[column].cast(pl.Float64).to_numpy()
    return costs


def _prefill(cost: ModelCost | None, samples: pl.DataFrame) -> dict[Axis, Floats | None]:
    """Return what the prompt alone costs."""
    tokens = _tokens_of(samples)
    prompt = _zeros(samples) if tokens.prompt is None else tokens.prompt
    costs = cost_of(cost, prompt, _zeros(samples), tokens.cached)
    return costs if tokens.prompt is not None else {**costs, "dollars": None}


def _beside(
    cost: ModelCost | None, samples: pl.DataFrame, needs: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[Axis, Floats | None] | None:
    """Return what the small model does for a method beside answering; None where it needs nothing, or nobody knows."""
    if not needs:
        return None
    style = settings.get("style")
    styles = [style] if style else ["direct", "chain"]
    traces = [f"trace_tokens_{name}" for name in styles] if "samples" in needs else []
    read = ["p_true_tokens"] if "p_true" in needs else []
    if any(name not in samples.columns or samples[name].null_count() for name in [*traces, *read]):
        return None
    prompt, written, steps = _zeros(samples), _zeros(samples), _zeros(samples)
    for name in traces:  # those of one style are drawn side by side
        written = written + samples[name].list.sum().cast(pl.Int64).to_numpy()
        steps = steps + samples[name].list.max().fill_null(0).cast(pl.Int64).to_numpy()
    for name in read:  # and one token is written
        prompt, written, steps = prompt + samples[name].cast(pl.Int64).to_numpy(), written + 1, steps + 1
    each = None if cost is None else cost.seconds_per_answer_token
    seconds = None if each is None else np.asarray(each * steps, dtype=np.float64)
    return {"dollars": cost_of(cost, prompt, written)["dollars"], "latency": seconds}


def _zeros(samples: pl.DataFrame) -> Counts:
    return np.zeros(len(samples), np.int64)
