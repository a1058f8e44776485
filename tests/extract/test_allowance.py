"""What may be spent: nobody waits for dollars that nobody can give back, and a batch waits for none."""

import threading

import pytest

from relope.extract.allowance import Allowance, AllowanceSpentError, allowance_after
from relope.types import Usage


def dollar_a_token(usage):
    return None if usage.completion_tokens is None else float(usage.completion_tokens)


def test_what_is_set_aside_comes_back_whole():
    """0.1 + 0.2 - 0.1 - 0.2 is 3e-17: whoever waits for these dollars waits for ever."""
    allowance = Allowance(price=dollar_a_token, max_usd=1.0)
    for dollars in (0.1, 0.2):
        allowance.reserve(dollars)
    for dollars in (0.1, 0.2):
        allowance.settle(dollars, Usage(completion_tokens=0))
    assert allowance.reserved == 0.0
    refused = threading.Event()

    def ask():
        with pytest.raises(AllowanceSpentError, match=r"^answers have cost \$0.0000; the next may cost \$1.5000"):
            allowance.reserve(1.5)
        refused.set()

    threading.Thread(target=ask, daemon=True).start()
    assert refused.wait(5)


def test_a_question_of_a_batch_waits_for_none():
    allowance = Allowance(price=dollar_a_token, max_usd=1.0)
    allowance.reserve(0.75, wait=False)
    with pytest.raises(AllowanceSpentError, match=r"and those that are asked may cost \$0.7500; the next"):
        allowance.reserve(0.5, wait=False)


def test_what_answers_have_cost_is_taken_off():
    answered = [Usage(completion_tokens=2), Usage()]
    assert allowance_after(answered, dollar_a_token, 5.0, None).spent == 2.0
    without = allowance_after(answered, None, 5.0, 7, requests=3)
    assert (without.max_usd, without.max_requests, without.requests) == (None, 7, 3)
