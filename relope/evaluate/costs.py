"""What answers cost: prices and speeds that the user fills in; what is unknown stays unknown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.metrics import Floats, Ints

Axis = Literal["dollars", "latency"]


class ModelCost(BaseModel):
    """One model's prices and speed; a field that is left out or null is unknown, never free."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dollars_per_million_prompt_tokens: float | None = Field(None, ge=0)
    dollars_per_million_answer_tokens: float | None = Field(None, ge=0)
    seconds_per_query: float | None = Field(None, ge=0)
    seconds_per_answer_token: float | None = Field(None, ge=0)


class PriceList(BaseModel):
    """The file: model name → its costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelCost]


@dataclass(frozen=True)
class Costs:
    """Mean costs of a query, by axis: ``[N]`` per sample for each model, None where unknown.

    Choice: every query pays the small model in full, also when it is escalated; a router that stops
    after block l saves a part of that, which is not counted here.
    """

    small: dict[Axis, Floats | None]
    large: dict[Axis, Floats | None]

    def along(self, axis: Axis, order: Ints) -> Floats | None:
        """Return ``[N + 1]`` mean cost of a query when the first k of a queue are escalated, None if unknown."""
        small, large = self.small[axis], self.large[axis]
        if small is None or large is None:
            return None
        added = np.concatenate([[0.0], np.cumsum(large[order])])
        return np.asarray((small.sum() + added) / len(order))


def read_prices(path: Path) -> PriceList:
    """Read a price list.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no YAML of the documented form; file and key are named.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; docs/costs.example.yaml shows the form of a price list")
    try:
        return PriceList.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{path} is no valid YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(ModelCost.model_fields)
        raise InvalidInputError(f"{path}: {key}: {first['msg'].lower()} (a model's keys: {known})") from error


def cost_of(cost: ModelCost | None, prompt_tokens: Ints, answer_tokens: Ints) -> dict[Axis, Floats | None]:
    """Return what each sample costs on a model, by axis; None where a price or speed is unknown.

    Args:
        cost: of the model; None when it is not in the list.
        prompt_tokens: ``[N]``.
        answer_tokens: ``[N]``.
    """
    found: dict[Axis, Floats | None] = {"dollars": None, "latency": None}
    if cost is None:
        return found
    prompt, answer = cost.dollars_per_million_prompt_tokens, cost.dollars_per_million_answer_tokens
    if prompt is not None and answer is not None:
        found["dollars"] = np.asarray((prompt * prompt_tokens + answer * answer_tokens) / 1e6, dtype=np.float64)
    if cost.seconds_per_query is not None and cost.seconds_per_answer_token is not None:
        found["latency"] = np.asarray(
            cost.seconds_per_query + cost.seconds_per_answer_token * answer_tokens, dtype=np.float64
        )
    return found
