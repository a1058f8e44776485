"""A judge for the stub server: it reads a request as a model would, and rules by a function of the case."""

import json
import re

_USER = re.compile(r"<case (?P<nonce>\w+)>\n(?P<case>.*)\n</case (?P=nonce)>\n(?P<after>.*)", re.DOTALL)


def case_of(body):
    """Return the nonce of a request, and the case in it as JSON reads it."""
    system, user = body["messages"]
    match = _USER.fullmatch(user["content"])
    assert match and "\n" not in match["case"] and "<" not in match["case"] and match["nonce"] in system["content"]
    return match["nonce"], json.loads(match["case"])


def judging(agrees):
    """Return what a stub answers: a verdict by a function of the case, or the text that it gives in its place."""

    def answer(body):
        nonce, case = case_of(body)
        said = agrees(case)
        return said if isinstance(said, str) else f"{'agrees' if said else 'differs'}-{nonce}"

    return answer


def honest(case):
    """Agree where a gold answer stands in the answer, as a careful reader of short answers would."""
    said = case["answer"].casefold()
    return any(right.casefold() in said for right in case["right_answers"])
