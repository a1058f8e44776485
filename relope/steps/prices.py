"""What answers of an endpoint cost, by a price list, and whether they can be capped."""

from pathlib import Path

from relope.errors import InvalidInputError
from relope.evaluate.numbers.costs import ModelCost, dollars_of, read_prices
from relope.extract.allowance import Price
from relope.types import Usage


def known_cost(costs: Path | None, model: str, max_usd: float | None) -> ModelCost | None:
    """Return the prices of a model; None where nobody has named any.

    Args:
        costs: a price list.
        model: its name there.
        max_usd: cap in dollars.

    Raises:
        InvalidInputError: a cap in dollars needs them.
    """
    cost = read_prices(costs).models.get(model) if costs else None
    if max_usd is not None and dollars_of(cost, 0, 0) is None:
        where = f"{costs} has no prices of {model}" if costs else f"no prices of {model} are given"
        raise InvalidInputError(
            f"{where}: its answers cannot be capped at ${max_usd:g}",
            hint="name its dollars per million prompt and answer tokens in --costs FILE, or give --max-requests alone",
        )
    return cost


def price_of(cost: ModelCost | None) -> Price | None:
    """Return what tells the dollars of an answer; None where nobody has named prices."""
    if dollars_of(cost, 0, 0) is None:
        return None

    def price(usage: Usage) -> float | None:
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return float(dollars_of(cost, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0))

    return price
