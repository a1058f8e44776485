"""Draw the pictures of docs/ as SVG: ``python recipes/pictures.py``; a test holds that the files are what this draws.

A picture has a ground of its own, light or dark as the reader's system is, so that it can be read on any page.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"

STYLE = """
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #8c959f; --fill: #f3f5f7;
      --blue: #2d5fb8; --pale: #e4edfb; --red: #b5432f; --rose: #fbe9e5 }
@media (prefers-color-scheme: dark) {
  svg { --ground: #161b22; --ink: #e6edf3; --soft: #a3adb8; --line: #6e7681; --fill: #222932;
        --blue: #8ab4f8; --pale: #1d2f4d; --red: #f0937f; --rose: #43241e } }
text { font: 14px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--ink) }
.small { font-size: 12.5px; fill: var(--soft) }
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


def picture(width: int, height: int, title: str, drawn: Sequence[str]) -> str:
    """Return a whole picture; its title is what is read aloud."""
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n'
        f'<rect width="{width}" height="{height}" rx="8" class="ground"/>\n{body}\n</svg>\n'
    )


def data_flow() -> str:
    """Return how a question becomes a decision: extract once, fit from the store, then report or serve."""
    drawn = [
        box(20, 30, 120, 66, ["data set", "questions,", "images"]),
        arrow([(140, 63), (180, 63)]),
        box(180, 30, 150, 66, ["small model", "reads once,", "answers once"]),
        arrow([(330, 63), (370, 63)]),
        box(370, 20, 170, 86, ["store", "hidden states,", "answers, grades"], "blue"),
        words(455, 128, "relope extract", "small"),
        arrow([(540, 63), (580, 63)]),
        box(580, 30, 120, 66, ["router", "P(the answer", "is right)"], "blue"),
        words(640, 118, "relope fit", "small"),
        arrow([(620, 128), (620, 162), (560, 162), (560, 190)]),
        arrow([(660, 128), (660, 190)]),
        box(180, 190, 150, 66, ["large model", "answers the", "same questions"]),
        arrow([(330, 223), (450, 223)]),
        box(450, 190, 140, 66, ["report", "what it is worth,", "with intervals"]),
        words(520, 278, "relope evaluate", "small"),
        box(610, 190, 110, 66, ["bundle", "a threshold", "that promises"], "blue"),
        words(665, 278, "relope calibrate", "small"),
        arrow([(665, 286), (665, 318)]),
        box(560, 318, 160, 48, ["relope serve", "behind OpenAI's API"]),
        arrow([(80, 96), (80, 223), (180, 223)]),
    ]
    return picture(740, 386, "Data set, small model, store, router; then report, or bundle and server", drawn)


def store() -> str:
    """Return what a store keeps of one sample, and the files that hold all of them."""
    drawn = [words(30, 34, "Of one sample", "bold", "start")]
    columns = ["img", "img", "img", "img", "what", "color", "is", "it", "?"]
    for row, (name, full) in enumerate([("layer l", False), ("layer l−1", True)]):
        y = 56 + 44 * row
        drawn.append(words(92, y + 21, name, "", "end"))
        for column in range(9):
            kept = full or column == 8
            drawn.append(box(102 + 38 * column, y, 34, 32, kind="blue" if kept else "empty"))
    drawn += [words(119 + 38 * place, 158, word, "small") for place, word in enumerate(columns)]
    drawn += [
        words(102, 186, "Each box is one token's state, H numbers.", "small", "start"),
        words(102, 204, "Filled: kept in a lean store. A full one keeps layer l too.", "small", "start"),
        box(480, 56, 110, 76, ["answer", "mean of its", "tokens' states"], "blue"),
        box(610, 56, 110, 76, ["row", "text, log-probs,", "grade"], "blue"),
        words(30, 250, "On disk", "bold", "start"),
        box(30, 266, 150, 92, ["catalog/2.json", "which parts count;", "the highest", "number wins"]),
        arrow([(180, 312), (214, 312)]),
        box(214, 266, 116, 92, ["parts/a…", "sealed,", "never changed"], "blue"),
        box(342, 266, 116, 92, ["parts/b…", "sealed,", "never changed"], "blue"),
        box(470, 266, 116, 92, [".tmp-c…", "being written;", "counts not yet"], "empty"),
        box(604, 266, 116, 92, ["grades/", "one file a grader;", "made again", "without a model"]),
    ]
    return picture(740, 380, "What a store keeps of a sample, and its files", drawn)


def early_exit() -> str:
    """Return how a request is decided at block l, and what it costs on either way."""
    drawn = [box(30, 290, 200, 44, ["prompt: image and text"]), arrow([(130, 290), (130, 266)])]
    drawn += [
        box(30, 196, 200, 70, ["blocks 1 … l", "read for every request"], "blue"),
        arrow([(130, 196), (130, 126)]),
        box(30, 56, 200, 70, ["blocks l+1 … L", "same pass, same cache"]),
        arrow([(130, 56), (130, 34)]),
        words(130, 24, "the small model's answer", "bold"),
        arrow([(230, 231), (300, 231)], "blue"),
        box(300, 196, 150, 70, ["router", "score below the", "threshold?"], "blue"),
        arrow([(375, 196), (375, 160), (132, 160)], "blue"),
        words(255, 152, "no: kept", "small blue"),
        arrow([(450, 231), (540, 231)], "red"),
        words(495, 222, "escalated", "small red"),
        box(540, 196, 170, 70, ["large model", "over its own API"], "red"),
        arrow([(625, 196), (625, 34)], "red"),
        words(625, 24, "the large model's answer", "bold"),
        words(300, 300, "An escalated request costs l of L blocks of one prefill,", "small", "start"),
        words(300, 318, "and no token of the small model's answer.", "small", "start"),
    ]
    return picture(740, 352, "The small model reads up to block l; there the router keeps or escalates", drawn)


def routing_curve() -> str:
    """Return a curve as reports draw it, with its parts named; drawn, not measured."""
    left, right, top, bottom = 90, 690, 40, 300
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
        words(x(budget) + 10, y(blind) + 20, "lead over random", "small red", "start"),
        words(x(budget), bottom + 20, "budget", "small"),
        words(x(1) - 6, y(1) - 8, "the large model alone", "small", "end"),
        words(x(1) - 6, y(0) - 8, "the small model alone", "small", "end"),
        words(x(0.62), y(0.62) + 30, "escalating at random", "small", "start"),
        words(x(0.19), y(0.375) - 12, "a router", "blue bold", "end"),
        words(left, bottom + 20, "0 %", "small"),
        words(right, bottom + 20, "100 %", "small"),
        words((left + right) / 2, bottom + 42, "share of the questions sent to the large model"),
        words(left, 26, "the system is right", "", "start"),
    ]
    return picture(740, 356, "Accuracy of the system against the share escalated", drawn)


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
