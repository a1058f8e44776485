"""Figure 3: AUC on inner validation against rank, layer and β, from the tables of sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from markupsafe import Markup

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.estimates import Estimate, mean_of
from relope.evaluate.numbers.heldout import HELD, keeps_held, resample_runs
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.scarcity import held_out_scarcity
from relope.evaluate.pages.panels import panel_title, share_axis
from relope.evaluate.pages.panels import panels as draw_panels
from relope.evaluate.pages.svg import SERIES
from relope.evaluate.pages.table import Record, Row, Table, columns, hundred, row, signed_hundred
from relope.evaluate.pages.wording import DASH
from relope.evaluate.studies.cells import EMBEDDED, PAIRED, TINY
from relope.evaluate.studies.inputs import Study, StudyInputs
from relope.types import ResultWarning
from relope.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_SETTING = ("method", "seed", "inner_auc", "best_epoch", "n_epochs", "seconds", "key", "data")
"""Columns of a sweep that are no setting."""

NOT_KEPT = "an older sweep, whose runs do not say what they held out; sweep again"
ONE_CLASS = "a run held out right or wrong answers only"
TITLES = {"lora_rank": "LoRA rank", "layer": "layer that is read", "beta": "β, weight of the KL term"}
SWEEP = "make it with `relope sweep METHOD --store … --grid …`"


@dataclass(frozen=True)
class Point:
    """What a value of a setting reaches: means over all runs that have it.

    Attributes:
        auc: on what the runs held out.
        mean: the same with its resamples, None where the sweep does not say what was held out.
        gap: to the best value, None for itself.
        sd_over_seeds: of the means over a seed's runs, None for one seed.
        n: fewest and most samples that a run held out.
        groups: image groups that were held out by any run.
    """

    value: float
    model: str | None
    data: str | None
    sweep: str
    auc: float
    mean: Estimate | None
    gap: Estimate | None
    runs: int
    seeds: int
    sd_over_seeds: float | None
    n: tuple[int, int] | None
    groups: int | None

    @property
    def ci95(self) -> Interval | None:
        """Return the interval of the AUC."""
        return None if self.mean is None else self.mean.ci95

    @property
    def null_reason(self) -> str | None:
        """Say why there is no interval."""
        return None if self.ci95 else NOT_KEPT if self.mean is None else ONE_CLASS

    @property
    def difference(self) -> tuple[float | None, Interval | None]:
        """Return the difference to the best value, and its interval."""
        return (None, None) if self.gap is None else (self.gap.known, self.gap.ci95)

    def record(self) -> Record:
        """Return the numbers as JSON values."""
        low, high = self.ci95 or (None, None)
        gap, gap_interval = self.difference
        gap_low, gap_high = gap_interval or (None, None)
        fewest, most = self.n or (None, None)
        return {
            "value": self.value,
            "model": self.model,
            "data": self.data,
            "sweep": self.sweep,
            "auc": self.auc,
            "ci95_low": low,
            "ci95_high": high,
            "null_reason": self.null_reason,
            "difference_to_best": gap,
            "difference_low": gap_low,
            "difference_high": gap_high,
            "runs": self.runs,
            "seeds": self.seeds,
            "sd_over_seeds": self.sd_over_seeds,
            "n": fewest,
            "n_most": most,
            "groups": self.groups,
        }


@dataclass(frozen=True)
class Panel:
    """One setting of one sweep: what its values reach, smallest value first."""

    method: str
    setting: str
    points: list[Point]

    @property
    def held(self) -> str:
        """Return how many samples a run held out, "" where it is not known."""
        sizes = [size for point in self.points if point.n for size in point.n]
        return _between(min(sizes), max(sizes)) if sizes else ""


def figure3(inputs: StudyInputs) -> Study:
    """Figure 3: inner validation AUC against rank, layer and β, from sweeps."""
    request, panels = inputs.request, []
    for path in request.sweeps:
        runs = _read_sweep(Path(path))
        aucs = resample_runs(runs, request.bootstrap, request.seed) if keeps_held(runs) else None
        panels += [
            Panel(str(runs["method"][0]), setting, _points(runs, setting, aucs, path)) for setting in _varied(runs)
        ]
    if not panels:
        raise InvalidInputError(
            f"no setting varies in {', '.join(request.sweeps)}",
            hint="sweep one with --grid, e.g. --grid lora_rank=4,16",
        )
    known = any(point.ci95 for panel in panels for point in panel.points)
    caption = f"Means over the runs of a value{'; bars: 95 % intervals' * known}. A ring marks the highest mean."
    figures = [(_drawn(panels), caption)]
    return Study("Figure 3: ablation", _what(panels), _shows(panels), [_table(panels)], figures, _warnings(panels))


def _warnings(panels: Sequence[Panel]) -> list[ResultWarning]:
    """Say where the runs of a sweep held out too few of a class."""
    fewest: dict[str, int] = {}
    for panel in panels:
        name = f"{panel.method} by {panel.setting}"
        for mean in (point.mean for point in panel.points if point.mean is not None):
            fewest[name] = min(fewest.get(name, mean.n_minority), mean.n_minority)
    return [warning for name, n_minority in fewest.items() for warning in held_out_scarcity(n_minority, name)]


def _between(fewest: int, most: int) -> str:
    """Write one number, or two."""
    return f"{fewest:,}" if fewest == most else f"{fewest:,}–{most:,}"


def _what(panels: list[Panel]) -> str:
    points = [point for panel in panels for point in panel.points]
    pairs = sorted({(point.model, point.data) for point in points if point.model and point.data})
    of = f" of {', '.join(f'{model} on {data}' for model, data in pairs)}" if pairs else ""
    methods = ", ".join(sorted({panel.method for panel in panels}))
    held = sorted({panel.held for panel in panels} - {""})
    samples = f", each judged on {' or '.join(held)} samples that it held out" if held else ""
    fits = counted(sum(point.runs for point in points), "fit")
    return f"{counted(len(panels), 'setting')} of {methods}{of}: {fits}{samples}."


def _shows(panels: list[Panel]) -> str:
    tiny = any(point.model in EMBEDDED for panel in panels for point in panel.points)
    return (
        "Each fit holds out a part of its training samples, and the AUC is on that part: nothing here has seen the "
        "test split. It is the AUC of the fit's best epoch there, which flatters every value a little. Intervals say "
        "how far a mean may move with other questions; the deviation over seeds, how far with another start of the "
        f"training and another part held out. A difference whose interval holds 0 is not shown to be one.{TINY * tiny}"
    )


def _table(panels: list[Panel]) -> Table:
    points = [(panel, point) for panel in panels for point in panel.points]
    records = [{"method": panel.method, "setting": panel.setting, **point.record()} for panel, point in points]
    numbers = ["value", "inner AUC × 100", "difference to best", "sd over seeds", "n", "runs"]
    reasons = sorted({point.null_reason for _, point in points if point.null_reason})
    notes = [
        f"{PAIRED} Whole groups are drawn once for all runs of a sweep.",
        "n: samples that a run held out. sd over seeds: of the means over a seed's runs.",
        *(f"No interval: {reason}." for reason in reasons),
    ]
    named, rows = columns(["method", "setting"], numbers), [_row(panel, point) for panel, point in points]
    return Table("figure3", "Inner validation AUC by setting", named, rows, records, notes)


def _row(panel: Panel, point: Point) -> Row:
    return row(
        panel.method,
        panel.setting,
        f"{point.value:g}",
        hundred(point.auc, point.ci95),
        signed_hundred(*point.difference),
        DASH if point.sd_over_seeds is None else f"{100 * point.sd_over_seeds:.1f}",
        DASH if point.n is None else _between(*point.n),
        str(point.runs),
    )


def _read_sweep(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist", hint=SWEEP)
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInputError(f"{path} is no readable Parquet file ({error})", hint=SWEEP) from error
    if lacking := [name for name in ("method", "seed", "inner_auc") if name not in table.columns]:
        raise InvalidInputError(f"{path} lacks the columns {', '.join(lacking)}: it is no table of a sweep", hint=SWEEP)
    if table.is_empty():
        raise InvalidInputError(f"{path} holds no runs", hint=SWEEP)
    return table


def _varied(table: pl.DataFrame) -> list[str]:
    """Return the numeric settings with more than one value."""
    other = NO_SETTING if "n_epochs" in table.columns else (*NO_SETTING, "epochs")  # once the epochs that were run
    return [
        name
        for name, dtype in table.schema.items()
        if name not in other and dtype.is_numeric() and table[name].drop_nulls().n_unique() > 1
    ]


def _points(table: pl.DataFrame, setting: str, runs: Sequence[Estimate] | None, path: str) -> list[Point]:
    """Return what each value of a setting reaches, smallest first; means over all runs that have it."""
    table = table.with_row_index("run")
    parts = [table.filter(pl.col(setting) == value) for value in table[setting].drop_nulls().unique().sort()]
    means = [None if runs is None else mean_of([runs[run] for run in part["run"]]) for part in parts]
    aucs = [float(part["inner_auc"].to_numpy().mean()) for part in parts]
    best = means[aucs.index(max(aucs))]
    return [
        Point(
            value=part[setting][0],
            model=_first(part, "model"),
            data=_first(part, "dataset"),
            sweep=path,
            auc=auc,
            mean=mean,
            gap=None if mean is None or best is None or mean is best else mean.minus(best),
            **_counts(part),
        )
        for part, mean, auc in zip(parts, means, aucs, strict=True)
    ]


def _counts(part: pl.DataFrame) -> dict[str, Any]:
    """Return runs and seeds, the deviation over seeds, and what was held out where the table says so."""
    by_seed = part.group_by("seed").agg(pl.col("inner_auc").mean())["inner_auc"]
    counts = {"runs": len(part), "seeds": len(by_seed), "sd_over_seeds": by_seed.std() if len(by_seed) > 1 else None}
    if not keeps_held(part):
        return {**counts, "n": None, "groups": None}
    groups = part[next(iter(HELD))]
    sizes = groups.list.len()
    return {**counts, "n": (sizes.min(), sizes.max()), "groups": groups.explode().n_unique()}


def _first(part: pl.DataFrame, column: str) -> str | None:
    return str(part[column][0]) if column in part.columns else None


def _drawn(panels: Sequence[Panel]) -> Markup:
    """Draw one panel a setting: inner AUC against its value."""
    points = [point for panel in panels for point in panel.points]
    every = [number for point in points for number in (point.auc, *(point.ci95 or ()))]
    room = 0.06 * (max(every) - min(every)) or 0.01

    def paint(axes: "Axes", index: int, pixels: int) -> None:
        panel = panels[index]
        x, y = np.arange(len(panel.points)), np.array([point.auc for point in panel.points])
        low, high = np.array([point.ci95 or (np.nan, np.nan) for point in panel.points]).T
        axes.vlines(x, low, high, color=SERIES[0], linewidth=1.5)
        axes.plot(x, y, color=SERIES[0], linewidth=2, marker="o", markersize=6)
        best = int(np.nanargmax(y))
        axes.plot([best], [y[best]], marker="o", markersize=11, markerfacecolor="none", color=SERIES[0])
        axes.set_xticks(x, [f"{point.value:g}" for point in panel.points])
        axes.set_xlim(-0.4, len(panel.points) - 0.6)
        share_axis(axes, min(every), max(every), room)
        axes.set_xlabel(TITLES.get(panel.setting, panel.setting))
        axes.yaxis.set_major_formatter("{x:.3f}")
        panel_title(axes, f"{panel.method}: inner AUC{f', n={panel.held}' if panel.held else ''}")

    settings = ", ".join(TITLES.get(panel.setting, panel.setting) for panel in panels)
    return draw_panels("ablation", f"Inner validation AUC against {settings}.", len(panels), 3, 16, paint)
