"""The paper's printed numbers, to set beside ours: AUC × 100 as printed, averages computed anew.

Source: ReLope (arXiv 2603.24787v1), Tables 1–4. Six printed averages of Table 2 are not the mean of
their row; the files keep what is printed, `average` gives the mean.
"""

import csv
import functools
from importlib.resources import files

DATASETS = {
    "mmmu": "MMMU",
    "aokvqa": "AOKVQA",
    "scienceqa": "ScienceQA",
    "chartqa": "ChartQA",
    "mathvision": "MathVision",
}
METHODS = {
    "mot": "MoT",
    "cascade": "Cascade Routing",
    "routellm-sw": "RouteLLM",
    "posthoc": "Post-Hoc Embed",
    "probe": "Probe",
    "attention-probe": "Attention Probe",
    "relope": "ReLope",
}
MODELS = {
    "qwen2.5-vl-7b": "Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct": "Qwen2.5-VL-7B-Instruct",
    "gemma3-12b": "Gemma3-12B",
    "google/gemma-3-12b-it": "Gemma3-12B",
    "phi4-multimodal": "Phi-4-Multimodal-Instruct",
    "microsoft/Phi-4-multimodal-instruct": "Phi-4-Multimodal-Instruct",
}
FILES = {
    "table1": "table1_text_vs_multimodal.csv",
    "table2": "table2_main_auc.csv",
    "table3": "table3_robustness_aokvqa.csv",
    "table4": "table4_ood.csv",
}


@functools.cache
def rows(table: str) -> tuple[dict[str, str], ...]:
    """Return a published table's rows as printed."""
    text = files("relope.evaluate.studies").joinpath("published", FILES[table]).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def value(table: str, model: str, method: str, column: str, **more: str) -> float | None:
    """Return a printed number as a share, None where the paper has none.

    Args:
        table: ``table1`` … ``table4``.
        model: the small model as we name it.
        method: as we name it.
        column: the data set as we name it, or a column of Table 3.
        more: further columns that must match, e.g. ``condition="text_only"``.
    """
    for row in rows(table):
        backbone = row.get("backbone", "Qwen2.5-VL-7B-Instruct").replace("(inferred)", "")
        same = backbone == MODELS.get(model) and row["method"] == METHODS.get(method)
        if same and all(row[key] == wanted for key, wanted in more.items()):
            text = row.get(DATASETS.get(column, column))
            return float(text) / 100 if text else None
    return None


def average(row: dict[str, str]) -> float:
    """Return the mean over the data sets of a printed row, AUC × 100."""
    printed = [float(row[name]) for name in DATASETS.values() if row.get(name)]
    return sum(printed) / len(printed)
