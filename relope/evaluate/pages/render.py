"""Templates to pages: everything that is filled in is escaped, the style sheet stands in the page."""

import functools
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PACKAGE = "relope.evaluate.pages"


def render(template: str, **context: Any) -> str:
    """Return a page made from a template of ``templates/``."""
    return environment().get_template(template).render(context)


@functools.cache
def environment() -> Environment:
    """Return what opens the templates; they get text and escape it, whatever it is."""
    made = Environment(
        loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["css"] = Markup(files(PACKAGE).joinpath("report.css").read_text(encoding="utf-8"))
    return made
