"""Words that messages share."""

import pytest

from relope.words import first_of


@pytest.mark.parametrize(
    ("texts", "between", "says"),
    [
        ([], ", ", ""),
        (["a", "b"], ", ", "a, b"),
        (["a", "b", "c"], ", ", "a, b and 1 more"),
        (["a", "b", "c", "d"], "; ", "a; b; and 2 more"),
    ],
)
def test_a_long_row_is_cut_and_counted(texts, between, says):
    assert first_of(texts, 2, between) == says
