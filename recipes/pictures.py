"""Draw the pictures of docs/ as SVG: ``python recipes/pictures.py``; a test holds that the files are what this draws.

A picture has a ground of its own, light or dark as the reader's system is, so that it can be read on any page. It is as
wide as a telephone shows it without making its words smaller than 10 px.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 430
"""Of every picture; a page of 390 px has 343 for it, so that 13 px become 10.4."""

STYLE = """
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #8c959f; --fill: #f3f5f7;
      --blue: #2d5fb8; --pale: #e4edfb; --red: #b5432f; --rose: #fbe9e5 }
@media (prefers-color-scheme: dark) {
  svg { --ground: #161b22; --ink: #e6edf3; --soft: #a3adb8; --line: #6e7681; --fill: #222932;
        --blue: #8ab4f8; --pale: #1d2f4d; --red: #f0937f; --rose: #43241e } }
text { font: 15px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--ink) }
.small { font-size: 13px; fill: var(--soft) }
.bold { font-weight: 600 }
.blue { fill: var(--blue) } .red { fill: var(--red) }
.ground { fill: var(--ground) }
.box { fill: var(--fill); stroke: var(--line) } .box.blue { fill: var(--pale); stroke: var(--blue) }
.box.red { fill: var(--rose); stroke: var(--red) } .box.empty { fill: none; stroke-dasharray: 4 3 }
.line { fill: none; stroke: var(--line); stroke-width: 1.5 }
.line.blue { stroke: var(--blue); stroke-width: 2.5 } .line.red { stroke: var(--red) }
.dotted { stroke-dasharray: 3 4 }
.tip { fill: var(--line) } .tip.blue { fill: var(--blue) } .tip.red { fill: var(--red) }
""".strip()


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    """Return a line of text, its baseline at y."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, lines: Sequence[str] = (), kind: str = "") -> str:
    """Return a box with lines of text in its middle, the first one bold."""
    drawn = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="box {kind}"/>']
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    for number, line in enumerate(lines):
        drawn.append(words(x + width / 2, top + 18 * number, line, "small" if number else "bold"))
    return "".join(drawn)


def arrow(points: Sequence[tuple[float, float]], kind: str = "") -> str:
    """Return a line through points, with a tip at its end."""
    (x0, y0), (x1, y1) = points[-2:]
    length = math.hypot(x1 - x0, y1 - y0)
    along, across = ((x1 - x0) / length, (y1 - y0) / length), (-(y1 - y0) / length, (x1 - x0) / length)
    base = x1 - 8 * along[0], y1 - 8 * along[1]
    tip = [(x1, y1), *((base[0] + side * across[0], base[1] + side * across[1]) for side in (-4.5, 4.5))]
    return line([*points[:-1], base], kind) + f'<polygon points="{told(tip)}" class="tip {kind}"/>'


def line(points: Sequence[tuple[float, float]], kind: str = "") -> str:
    """Return a line through points."""
    return f'<polyline points="{told(points)}" class="line {kind}"/>'


def told(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def picture(height: int, title: str, drawn: Sequence[str]) -> str:
    """Return a whole picture; its title is what is read aloud."""
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n'
        f'<rect width="{WIDTH}" height="{height}" rx="8" class="ground"/>\n{body}\n</svg>\n'
    )


def data_flow() -> str:
    """Return how a question becomes a decision: extract once, fit from the store, then report or serve."""
    drawn = [
        box(20, 20, 170, 66, ["data set", "questions, images"]),
        arrow([(190, 53), (240, 53)]),
        box(240, 20, 170, 66, ["small model", "reads once,", "answers once"]),
        arrow([(325, 86), (325, 130)]),
        words(315, 113, "relope extract", "small", "end"),
        box(240, 130, 170, 66, ["store", "hidden states,", "answers, grades"], "blue"),
        arrow([(325, 196), (325, 240)]),
        words(315, 223, "relope fit", "small", "end"),
        box(240, 240, 170, 66, ["router", "P(the answer", "is right)"], "blue"),
        arrow([(325, 306), (325, 360)]),
        words(315, 340, "relope calibrate", "small", "end"),
        box(240, 360, 170, 66, ["bundle", "a threshold", "that promises"], "blue"),
        arrow([(325, 426), (325, 466)]),
        box(240, 466, 170, 54, ["relope serve", "behind OpenAI's API"]),
        arrow([(105, 86), (105, 130)]),
        box(20, 130, 170, 66, ["large model", "answers the", "same questions"]),
        arrow([(80, 196), (80, 360)]),
        arrow([(240, 273), (140, 273), (140, 360)]),
        box(20, 360, 170, 66, ["report", "what it is worth,", "with intervals"]),
        words(105, 446, "relope evaluate", "small"),
    ]
    return picture(540, "Data set, small model, store, router; then report, or bundle and server", drawn)


def store() -> str:
    """Return what a store keeps of one sample, and the files that hold all of them."""
    drawn = [words(20, 32, "Of one sample", "bold", "start")]
    columns = ["img", "img", "img", "img", "what", "color", "is", "it", "?"]
    for row, (name, full) in enumerate([("layer l", False), ("layer l−1", True)]):
        y = 48 + 44 * row
        drawn.append(words(20, y + 21, name, "", "start"))
        for column in range(9):
            kept = full or column == 8
            drawn.append(box(95 + 35.5 * column, y, 31, 32, kind="blue" if kept else "empty"))
    drawn += [words(110.5 + 35.5 * place, 146, word, "small") for place, word in enumerate(columns)]
    drawn += [
        words(20, 176, "Each box is one token's state, H numbers.", "small", "start"),
        words(20, 194, "Filled: kept in a lean store. A full one keeps layer l too.", "small", "start"),
        box(20, 212, 190, 66, ["answer", "mean of its", "tokens' states"], "blue"),
        box(220, 212, 190, 66, ["row", "text, log-probs,", "grade"], "blue"),
        words(20, 320, "On disk", "bold", "start"),
        box(20, 336, 260, 66, ["catalog/2.json", "which parts count;", "the highest number wins"]),
        arrow([(82, 402), (82, 432)]),
        arrow([(215, 402), (215, 432)]),
        box(20, 432, 124, 66, ["parts/a…", "sealed,", "never changed"], "blue"),
        box(153, 432, 124, 66, ["parts/b…", "sealed,", "never changed"], "blue"),
        box(286, 432, 124, 66, [".tmp-c…", "being written;", "counts not yet"], "empty"),
        box(20, 512, 390, 50, ["grades/", "one file a grader; made again without a model"]),
    ]
    return picture(582, "What a store keeps of a sample, and its files", drawn)


def early_exit() -> str:
    """Return how a request is decided at block l, and what it costs on either way."""
    drawn = [box(20, 310, 180, 54, ["prompt", "image and text"]), arrow([(110, 310), (110, 276)])]
    drawn += [
        box(20, 210, 180, 66, ["blocks 1 … l", "read for every request"], "blue"),
        arrow([(110, 210), (110, 130)]),
        box(20, 64, 180, 66, ["blocks l+1 … L", "same pass, same cache"]),
        arrow([(110, 64), (110, 34)]),
        words(110, 24, "small model's answer", "bold"),
        arrow([(200, 243), (240, 243)], "blue"),
        box(240, 210, 170, 66, ["router", "score below the", "threshold?"], "blue"),
        arrow([(270, 210), (270, 170), (112, 170)], "blue"),
        words(192, 162, "no: kept", "small blue"),
        arrow([(370, 210), (370, 130)], "red"),
        words(362, 152, "yes: escalated", "small red", "end"),
        box(240, 64, 170, 66, ["large model", "over its own API"], "red"),
        arrow([(325, 64), (325, 34)], "red"),
        words(325, 24, "large model's answer", "bold"),
        words(20, 392, "An escalated request costs l of L blocks of one prefill,", "small", "start"),
        words(20, 410, "and no token of the small model's answer.", "small", "start"),
    ]
    return picture(428, "The small model reads up to block l; there the router keeps or escalates", drawn)


def routing_curve() -> str:
    """Return a curve as reports draw it, with its parts named; drawn, not measured."""
    left, right, top, bottom = 30, 405, 40, 320
    x = lambda share: left + (right - left) * share  # noqa: E731
    y = lambda height: bottom - (bottom - top) * (0.12 + 0.72 * height)  # noqa: E731
    shares = [step / 50 for step in range(51)]
    curve = [(x(share), y(share + 1.25 * share * (1 - share) ** 1.6)) for share in shares]
    budget = 0.3
    reached, blind = budget + 1.25 * budget * (1 - budget) ** 1.6, budget
    drawn = [
        line([(left, top), (left, bottom), (right, bottom)]),
        line([(left, y(0)), (right, y(0))], "dotted"),
        line([(left, y(1)), (right, y(1))], "dotted"),
        line([(x(0), y(0)), (x(1), y(1))]),
        line(curve, "blue"),
        line([(x(budget), bottom), (x(budget), y(blind))], "dotted"),
        arrow([(x(budget), y(blind)), (x(budget), y(reached) + 2)], "red"),
        words(x(budget) + 10, y(blind) + 22, "lead over random", "small red", "start"),
        words(x(budget), bottom + 20, "budget", "small"),
        words(right, y(1) - 8, "the large model alone", "small", "end"),
        words(right, y(0) - 8, "the small model alone", "small", "end"),
        words(x(0.6), y(0.6) + 38, "escalating at random", "small", "start"),
        words(x(0.19), y(0.375) - 12, "a router", "blue bold", "end"),
        words(left, bottom + 20, "0 %", "small"),
        words(right, bottom + 20, "100 %", "small", "end"),
        words((left + right) / 2, bottom + 44, "share of the questions sent to the large model"),
        words(left, 26, "the system is right", "", "start"),
    ]
    return picture(378, "Accuracy of the system against the share escalated", drawn)


PICTURES = {
    "data-flow": data_flow,
    "store": store,
    "early-exit": early_exit,
    "routing-curve": routing_curve,
}


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
