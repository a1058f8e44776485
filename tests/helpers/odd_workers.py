"""Workers of a cluster that die, refuse or fail: made from ``{"died": FILE}``, jobs are words."""

import os
from pathlib import Path

from relope.errors import InvalidInputError


class Worker:
    """Answers a word by itself in capitals; the words below are odd."""

    def __init__(self, asked):
        self.path = Path(asked["died"])
        if self.path.read_text() == "no":
            raise InvalidInputError("the model does not load", hint="-")

    def work(self, jobs, ended, tell):
        for number, word in jobs:
            tell((1, 2))
            if word == "dies" and len(self.path.read_text()) < 3:
                with self.path.open("a") as file:
                    file.write("x")
                os._exit(1)
            if word == "refused":
                raise InvalidInputError("sample 'refused' alone does not fit", hint="use smaller images")
            if word == "bug":
                raise RuntimeError("a bug")
            ended(number, InvalidInputError("not this one") if word == "no" else (word.upper(), os.getpid()))
