"""What every benchmark prints: a value, its goal and whether it is met; ``--json`` for programs."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number; ``goal`` is for people, e.g. ``>= 0.90``. None: it could not be measured."""

    value: float | None
    goal: str
    met: bool


def at_least(value: float, goal: float) -> Figure:
    """Return a figure that should not be below its goal."""
    return Figure(value, f">= {goal:g}", value >= goal)


def at_most(value: float, goal: float) -> Figure:
    """Return a figure that should not be above its goal."""
    return Figure(value, f"<= {goal:g}", value <= goal)


def main(measure: Callable[[], dict[str, Figure]], description: str | None) -> None:
    """Measure and show; exit with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print {name: {value, goal, met}}")
    as_json = parser.parse_args().json
    found = measure()
    if as_json:
        sys.stdout.write(json.dumps({name: figure._asdict() for name, figure in found.items()}, indent=2) + "\n")
    else:
        for name, (value, goal, met) in found.items():
            sys.stdout.write(
                f"{'met   ' if met else 'MISSED'} {name}: {'null' if value is None else f'{value:.4g}'} (goal {goal})\n"
            )
    sys.exit(0 if all(figure.met for figure in found.values()) else 1)
