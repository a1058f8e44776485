"""What a promise that cannot be made is refused with."""

import pytest

from relope.errors import InvalidInputError
from relope.evaluate.numbers.guarantee import Promise
from relope.steps.promises import promised


@pytest.mark.parametrize(
    ("holds", "easier"),
    [
        ("share escalated", "allow a larger budget"),
        ("error among kept", "allow a larger error"),
        ("accuracy of the system", "ask for a lower accuracy"),
    ],
)
def test_the_hint_says_which_way_is_easier(holds, easier):
    with pytest.raises(InvalidInputError, match="about 400 like these would do") as error:
        promised(Promise(holds, 0.25, 0.95, 40, None, None, 400))
    assert error.value.hint == f"calibrate on more samples, {easier}, or lower --confidence"
