"""Figure 3: AUC on inner validation against rank, layer and β, from the tables of `relope sweep`."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.draws import Drawn, mean
from relope.evaluate.numbers.heldout import HELD, draw_runs, keeps_held
from relope.evaluate.pages.export import Table, hundred, signed_hundred
from relope.evaluate.pages.wording import DASH, Json
from relope.evaluate.studies import figures
from relope.evaluate.studies.inputs import Study, StudyInputs
from relope.evaluate.studies.tables import PAIRED, TINY

NO_SETTING = ("method", "seed", "inner_auc", "best_epoch", "n_epochs", "seconds", "key", "data")
"""Columns of a sweep that are no setting."""

NOT_KEPT = "an older sweep, whose runs do not say what they held out; sweep again"
ONE_CLASS = "a run held out right or wrong answers only"


@dataclass(frozen=True)
class Panel:
    """One setting of one sweep: what its values reach, smallest value first."""

    method: str
    setting: str
    points: list[Json]

    @property
    def held(self) -> str:
        """Return how many samples a run held out, "" where it is not known."""
        sizes = [point[key] for point in self.points for key in ("n", "n_most") if point[key] is not None]
        return between(min(sizes), max(sizes)) if sizes else ""


def figure3(inputs: StudyInputs) -> Study:
    """Figure 3: inner validation AUC against rank, layer and β, from sweeps."""
    panels = []
    for path in inputs.spec.sweeps:
        runs = _read_sweep(Path(path))
        drawn = draw_runs(runs, inputs.spec.bootstrap, inputs.spec.seed) if keeps_held(runs) else None
        panels += [
            Panel(str(runs["method"][0]), setting, _points(runs, setting, drawn, path)) for setting in _varied(runs)
        ]
    if not panels:
        raise InvalidInputError(
            f"no setting varies in {', '.join(inputs.spec.sweeps)}; sweep one with --grid, e.g. --grid lora_rank=4,16"
        )
    figure = figures.ablation_panels([(one.method, one.setting, one.held, one.points) for one in panels])
    known = any(point["ci95_low"] is not None for one in panels for point in one.points)
    caption = f"Means over the runs of a value{'; bars: 95 % intervals' * known}. A ring marks the highest mean."
    return Study("Figure 3: ablation", _what(panels), _shows(panels), [_table(panels)], [(figure, caption)])


def between(fewest: int, most: int) -> str:
    """Write one number, or two."""
    return f"{fewest:,}" if fewest == most else f"{fewest:,}–{most:,}"


def _what(panels: list[Panel]) -> str:
    points = [point for one in panels for point in one.points]
    of = [" on ".join(pair) for pair in sorted({(point["model"], point["data"]) for point in points}) if all(pair)]
    methods = ", ".join(sorted({one.method for one in panels}))
    fits = sum(point["runs"] for point in points)
    where = f" of {', '.join(of)}" if of else ""
    held = sorted({one.held for one in panels} - {""})
    samples = f", each judged on {' or '.join(held)} samples that it held out" if held else ""
    plural = "s" if len(panels) > 1 else ""
    return f"{len(panels)} setting{plural} of {methods}{where}: {fits} fits{samples}."


def _shows(panels: list[Panel]) -> str:
    tiny = any(str(point["model"]).startswith("tiny-") for one in panels for point in one.points)
    return (
        "Each fit holds out a part of its training samples, and the AUC is on that part: nothing here has seen the "
        "test split. It is the AUC of the fit's best epoch there, which flatters every value a little. Intervals say "
        "how far a mean may move with other questions; the deviation over seeds, how far with another start of the "
        f"training and another part held out. A difference whose interval holds 0 is not shown to be one.{TINY * tiny}"
    )


def _table(panels: list[Panel]) -> Table:
    rows = [
        [one.method, one.setting, f"{point['value']:g}", hundred(point["auc"], _pair(point, "ci95")),
         DASH if point["difference_to_best"] is None else
         signed_hundred(point["difference_to_best"], _pair(point, "difference")),
         DASH if point["sd_over_seeds"] is None else f"{100 * point['sd_over_seeds']:.1f}",
         DASH if point["n"] is None else between(point["n"], point["n_most"]), str(point["runs"])]
        for one in panels for point in one.points
    ]  # fmt: skip
    records = [{"method": one.method, "setting": one.setting, **point} for one in panels for point in one.points]
    columns = ["method", "setting", "value", "inner AUC × 100", "difference to best", "sd over seeds", "n", "runs"]
    reasons = sorted({str(point["null_reason"]) for one in panels for point in one.points if point["null_reason"]})
    notes = [
        f"{PAIRED} Whole groups are drawn once for all runs of a sweep.",
        "n: samples that a run held out. sd over seeds: of the means over a seed's runs.",
        *(f"No interval: {reason}." for reason in reasons),
    ]
    return Table("figure3", "Inner validation AUC by setting", columns, rows, records, 2, notes)


def _pair(point: Json, key: str) -> tuple[float, float] | None:
    low, high = point[f"{key}_low"], point[f"{key}_high"]
    return None if low is None else (low, high)


def _read_sweep(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; make it with `relope sweep METHOD --store … --grid …`")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInputError(f"{path} is no readable Parquet file ({error}); sweep again") from error
    if lacking := [name for name in ("method", "seed", "inner_auc") if name not in table.columns]:
        raise InvalidInputError(f"{path} lacks the columns {', '.join(lacking)}; it is no table of `relope sweep`")
    if table.is_empty():
        raise InvalidInputError(f"{path} holds no runs; sweep again")
    return table


def _varied(table: pl.DataFrame) -> list[str]:
    """Return the numeric settings with more than one value."""
    other = NO_SETTING if "n_epochs" in table.columns else (*NO_SETTING, "epochs")  # once the epochs that were run
    return [
        name
        for name, dtype in table.schema.items()
        if name not in other and dtype.is_numeric() and table[name].drop_nulls().n_unique() > 1
    ]


def _points(table: pl.DataFrame, setting: str, drawn: list[Drawn] | None, path: str) -> list[Json]:
    """Return a record for each value of a setting, smallest first; means over all runs that have it."""
    table = table.with_row_index("place")
    parts = [table.filter(pl.col(setting) == value) for value in table[setting].drop_nulls().unique().sort()]
    means = None if drawn is None else [mean([drawn[place] for place in part["place"]]) for part in parts]
    aucs = [float(part["inner_auc"].to_numpy().mean()) for part in parts]
    best = aucs.index(max(aucs))
    found = []
    for at, part in enumerate(parts):
        low, high = (means[at].ci95 if means else None) or (None, None)
        gap = means[at].minus(means[best]) if means and at != best else None
        gap_low, gap_high = (gap.ci95 if gap else None) or (None, None)
        found.append({
            "value": part[setting][0], "model": _one(part, "model"), "data": _one(part, "dataset"), "sweep": path,
            "auc": aucs[at], "ci95_low": low, "ci95_high": high,
            "null_reason": None if low is not None else ONE_CLASS if means else NOT_KEPT,
            "difference_to_best": gap.known if gap else None, "difference_low": gap_low, "difference_high": gap_high,
            **_counts(part),
        })  # fmt: skip
    return found


def _counts(part: pl.DataFrame) -> Json:
    """Return runs and seeds, the deviation over seeds, and what was held out where the table says so."""
    by_seed = part.group_by("seed").agg(pl.col("inner_auc").mean())["inner_auc"]
    counts = {"runs": len(part), "seeds": len(by_seed), "sd_over_seeds": by_seed.std() if len(by_seed) > 1 else None}
    if not keeps_held(part):
        return {**counts, "n": None, "n_most": None, "groups": None}
    groups, sizes = part[next(iter(HELD))], part[next(iter(HELD))].list.len()
    return {**counts, "n": sizes.min(), "n_most": sizes.max(), "groups": groups.explode().n_unique()}


def _one(part: pl.DataFrame, column: str) -> str | None:
    return str(part[column][0]) if column in part.columns else None
