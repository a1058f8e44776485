"""C: a bundle of a router that was fitted under a template of one's own is for that template alone."""

from dataclasses import fields

import pytest

from relope.errors import InvalidInputError
from relope.serve.bundle import BACKBONE, PROMPTS, Bundle


@pytest.mark.parametrize("name", ["chat_template", "prompt_template", "adapter_files"])
def test_c_a_bundle_is_for_the_template_that_it_was_fitted_under(name):
    given = {field.name: None for field in fields(Bundle)}
    named = {**BACKBONE, **PROMPTS}  # of a store; a model on live traffic makes no prompts
    plain = {field: "same" for field in named if field != name}
    bundle = Bundle(**{**given, "model": "m", "backbone": {**plain, name: "a" * 64}})
    bundle.check_backbone({**plain, name: "a" * 64}, "the same")
    for other in (plain, {**plain, name: "b" * 64}):
        with pytest.raises(InvalidInputError, match=named[name]):
            bundle.check_backbone(other, "another")
