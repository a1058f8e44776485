"""What answers cost: prices and speeds that the user fills in; what is unknown stays unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relope.errors import InvalidInputError, NotFoundError, reason_of
from relope.evaluate.numbers.metrics import Floats, Ints

Axis = Literal["dollars", "latency"]
EXAMPLE = Path(__file__).with_name("costs.example.yaml")


class ModelCost(BaseModel):
    """One model's prices and speed; a field that is left out or null is unknown, never free.

    Cached prompt tokens whose price is unknown cost what others do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dollars_per_million_prompt_tokens: float | None = Field(None, ge=0)
    dollars_per_million_answer_tokens: float | None = Field(None, ge=0)
    dollars_per_million_cached_tokens: float | None = Field(None, ge=0)
    seconds_per_query: float | None = Field(None, ge=0)
    seconds_per_answer_token: float | None = Field(None, ge=0)


class PriceList(BaseModel):
    """The file: model name → its costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelCost]


@dataclass(frozen=True)
class Costs:
    """Costs of a query, by axis: ``[N]`` per sample, None where unknown.

    Choice: a query that is kept costs the small model's prompt and answer. One that is escalated
    costs the large model's, and of the small model what the method had to see first: the prompt
    alone, or the answer too. What the small model does for a method beside answering (sampled
    traces, p(True)) costs its tokens, of every query; the prompt is read once for all of it. Not
    counted: that where a store does not keep its tokens, the router's own arithmetic, and what a
    router saves that stops after block l or reads the question's text alone.

    Attributes:
        small: the small model's prompt and answer.
        prefill: its prompt alone.
        large: the large model's prompt and answer.
        before_answer: rows of the report whose method scores before the small model answers.
        beside: row → what the small model does for its method beside answering; rows that are not here need nothing,
            or nobody knows what it took.
    """

    small: dict[Axis, Floats | None]
    prefill: dict[Axis, Floats | None]
    large: dict[Axis, Floats | None]
    before_answer: frozenset[str] = frozenset()
    beside: Mapping[str, Mapping[Axis, Floats | None]] = field(default_factory=dict)

    def along(self, axis: Axis, method: str, order: Ints) -> Floats | None:
        """Return ``[N + 1]`` mean cost of a query when the first k of a method's queue are escalated.

        None if a price or speed that it needs is unknown.
        """
        kept, escalated = self.of_query(axis, method)
        if kept is None or escalated is None:
            return None
        added = np.concatenate([[0.0], np.cumsum((escalated - kept)[order])])
        return np.asarray((kept.sum() + added) / len(order))

    def of_query(self, axis: Axis, method: str) -> tuple[Floats | None, Floats | None]:
        """Return ``[N]`` the cost of each query when it is kept, and when it is escalated; None where unknown."""
        small, large = self.small[axis], self.large[axis]
        seen = self.prefill[axis] if method in self.before_answer else small
        if method in self.beside:
            beside = self.beside[method][axis]
            small, seen = _sum(small, beside), _sum(seen, beside)
        return small, _sum(seen, large)


def _sum(first: Floats | None, second: Floats | None) -> Floats | None:
    return None if first is None or second is None else first + second


def read_prices(path: Path) -> PriceList:
    """Read a price list.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no YAML of the documented form; file and key are named.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist", hint=f"copy the example, {EXAMPLE}, and fill in your own prices")
    try:
        return PriceList.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path} is no valid YAML in UTF-8: {reason_of(error)}", hint=f"the example shows its form: {EXAMPLE}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(ModelCost.model_fields)
        said = f"{key}: {first['msg'].lower()}" if key else "must map `models` to the costs of each"
        raise InvalidInputError(
            f"{path}: {said} (a model's keys: {known})", hint=f"the example shows its form: {EXAMPLE}"
        ) from error


def dollars_of(cost: ModelCost | None, prompt: Any, answer: Any, cached: Any = 0) -> Any:
    """Return what tokens cost on a model, numbers or arrays ``[N]`` of them; None where a price is unknown.

    Args:
        cost: of the model; None when it is not in the list.
        prompt: tokens of prompts, cached ones included.
        answer: tokens of answers.
        cached: those of the prompts' tokens that the server had read before.
    """
    if cost is None:
        return None
    prices = cost.dollars_per_million_prompt_tokens, cost.dollars_per_million_answer_tokens
    if prices[0] is None or prices[1] is None:
        return None
    of_cached = cost.dollars_per_million_cached_tokens
    of_cached = prices[0] if of_cached is None else of_cached
    return (prices[0] * (prompt - cached) + of_cached * cached + prices[1] * answer) / 1e6


def cost_of(
    cost: ModelCost | None, prompt_tokens: Ints, answer_tokens: Ints, cached_tokens: Ints | None = None
) -> dict[Axis, Floats | None]:
    """Return what each sample costs on a model, by axis; None where a price or speed is unknown.

    Args:
        cost: of the model; None when it is not in the list.
        prompt_tokens: ``[N]``.
        answer_tokens: ``[N]``.
        cached_tokens: ``[N]``, those of the prompt that the server had read before; None = none.
    """
    costs: dict[Axis, Floats | None] = {"dollars": None, "latency": None}
    if cost is None:
        return costs
    cached = np.zeros_like(prompt_tokens) if cached_tokens is None else cached_tokens
    if dollars_of(cost, 0, 0) is not None:
        costs["dollars"] = np.asarray(dollars_of(cost, prompt_tokens, answer_tokens, cached), dtype=np.float64)
    if cost.seconds_per_query is not None and cost.seconds_per_answer_token is not None:
        costs["latency"] = np.asarray(
            cost.seconds_per_query + cost.seconds_per_answer_token * answer_tokens, dtype=np.float64
        )
    return costs
