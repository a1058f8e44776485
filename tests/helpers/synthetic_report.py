"""A report of made scores, built and read again, its page checked for what no page may hold."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
from PIL import Image

from relope.evaluate.numbers.records import Report
from relope.evaluate.report import MethodScores, ReportInputs, build_report, read_report

N = 240
VOID = {"meta", "img", "br"}


def image(sample_id):
    return None if sample_id.endswith("7") else Image.new("RGB", (32, 20), (200, 40, 90))


def synthetic(**changes):
    rng = np.random.default_rng(0)
    correct = rng.random(N) < 0.6
    labels = pl.DataFrame(
        {
            "id": [f"s{i}" for i in range(N)],
            "split": ["test"] * N,
            "group": [f"g{i // 2}" for i in range(N)],
            "correct": correct,
            "question": ["Is <b>this</b> & that <script>alert(1)</script>?"] * N,
            "response": ['"<i>yes</i>"'] * N,
            "answers": [["no", "<u>never</u>"]] * N,
            "dataset": ["tiny"] * N,
            "kind": ["bars", "count", "clock"] * (N // 3),
        }
    )

    def method(name, strength, **more):
        return MethodScores(name, np.clip(rng.normal(0.5 + strength * correct, 0.15), 0, 1), **more)

    methods = [
        method("probe", 0.05, seconds_fit=2.0, note="a <b>note</b>"),
        method("relope", 0.2, seconds_fit=200.0),
        method("logprob", 0.02, needs_training=False),
        method("question-kind", 0.01, is_control=True),
    ]
    given = {
        "title": "A <b>title</b>",
        "what": "Something was run.",
        "small_name": "small",
        "large_name": "large",
        "dataset": "tiny",
        "labels": labels,
        "methods": methods,
        "large_correct": rng.random(N) < 0.85,
        "provenance": {"recipe_id": "r1"},
        "caveat": "Small numbers.",
        "images": image,
        "resamples": 400,
        "seed": 5,
    }
    return ReportInputs(**{**given, **changes})


def build(tmp_path, **changes):
    inputs = synthetic(**changes)
    built = build_report(inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert built.to_json() == report
    assert read_report(tmp_path / "out") == Report.from_json(report)
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    return inputs, report, page


class Balance(HTMLParser):
    """Fail on tags that are not closed in order, and collect ids."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page):
    assert "<script" not in page and "http://" not in page and "https://" not in page and "@import" not in page
    assert "xmlns" not in page and "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().split()
    assert set(re.findall(r'(?:src|href)="([^"#][^"]{0,4})', page)) <= {"data:"}
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    assert len(balance.ids) == len(set(balance.ids))
    assert not balance.tags & {"script", "link", "iframe", "u", "i"}
    used = set(re.findall(r"url\(#([^)]*)\)", page)) | set(re.findall(r'href="#([^"]*)"', page))
    assert used <= set(balance.ids)


def by_name(report):
    return {row["method"]: row for row in report["methods"]}
