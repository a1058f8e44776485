"""Pages as a browser lays them out: no labels on labels, nothing cut without a cue, nothing fetched, no errors.

Left out of a plain ``pytest``; ``pytest -m browser`` needs Chromium (Debian: ``apt-get install chromium``).
"""

import functools
import io

import numpy as np
import polars as pl
import pytest
from browser import VIEWS, View, executable, faults_of
from made_reports import made_sweep, make_report
from PIL import Image

from relope.evaluate.numbers.costs import Costs
from relope.evaluate.pages.attention import Patches, Word, picture, render_attention
from relope.evaluate.report import MethodScores, ReportInputs, build_report
from relope.evaluate.studies.inputs import StudyRequest
from relope.evaluate.studies.make import make_study
from relope.types import ResultWarning

pytestmark = pytest.mark.browser

ROUTERS = (
    "fusion", "posthoc", "probe", "cascade", "relope", "attention-probe", "cascade-logprob", "mot", "semantic-entropy",
    "routellm-sw@a-long-name-of-a-run",
)  # fmt: skip
FREE, CONTROLS = ("logprob", "entropy", "perplexity"), ("question-kind", "question-confidence")


def image(sample_id):
    return Image.new("RGB", (48, 32), (200, 40, 90))


def report(folder, *, n=300, right=0.65, large=0.8, strength=0.2, names=ROUTERS, priced=True, warnings=()):
    """Write a report of made scores; return its page."""
    rng = np.random.default_rng(0)
    correct = np.arange(n) < right * n
    labels = pl.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "split": ["test"] * n,
            "group": [f"g{i // 2}" for i in range(n)],
            "correct": correct,
            "question": [f"Which of these is a question with some words, number {i}?" for i in range(n)],
            "response": ["Pneumonoultramicroscopicsilicovolcanoconiosis"] * n,
            "answers": [["no", "never"]] * n,
            "dataset": ["made-of-parts"] * n,
            "kind": [("bars", "count", "a kind with a long name, of which there is one")[i % 3] for i in range(n)],
        }
    )
    methods = [
        MethodScores(
            name,
            np.clip(rng.normal(0.5 + strength * (1 - 0.04 * i) * correct, 0.1), 0, 1),
            seconds_fit=None if name in FREE else 3.0 * i,
            note="fitted on other data (differs in perturbation)" * (i == 2),
            needs_training=name not in FREE,
            is_control=name in CONTROLS,
        )
        for i, name in enumerate((*names, *FREE, *CONTROLS))
    ]
    each = {"dollars": np.full(n, 2e-4), "latency": np.full(n, 0.2)}
    more = {axis: 12 * cost for axis, cost in each.items()}
    inputs = ReportInputs(
        title="Routing a-small-model-of-7b on made-of-parts (images with noise, labels frozen)",
        what=f"a-small-model-of-7b answered {n:,} questions of made-of-parts, with a-large-model-of-72b.",
        small_name="a-small-model-of-7b",
        large_name="a-large-model-of-72b" if large else "",
        dataset="made-of-parts",
        labels=labels,
        methods=methods,
        large_correct=rng.random(n) < large if large else None,
        provenance={
            "recipe_id": "0123456789abcdef" * 4,
            "split": ["test"],
            "scores": {m.name: ["ab" * 32] for m in methods},
        },
        caveat="These numbers hold for this model.",
        costs=Costs(each, each, more) if priced else None,
        images=image,
        resamples=100,
        warnings=warnings,
    )
    build_report(inputs, folder)
    return folder / "report.html"


def study(folder, kind, *reports, **more):
    make_study(StudyRequest(kind, tuple(map(str, reports)), bootstrap=100, **more), folder)
    return folder / "study.html"


def figure2(folder):
    methods = {name: 0.25 - 0.02 * number for number, name in enumerate(ROUTERS)}
    for number, dataset in enumerate(("aokvqa", "a-data-set-with-a-long-name (images with noise)", "mmmu")):
        make_report(folder / dataset[:6], dataset=dataset, seed=number, methods={**methods, "question-kind": 0.01})
    return study(folder / "study", "figure2", folder)


def figure3(folder):
    folder.mkdir(parents=True)
    made_sweep(folder / "sweep.parquet")
    return study(folder / "study", "figure3", sweeps=(str(folder / "sweep.parquet"),))


def efficiency(folder):
    methods = {
        f"{name}@n{n}": strength * n / 200
        for name, strength in (("probe", 0.3), ("relope", 0.9))
        for n in (50, 100, 200)
    }
    make_report(folder / "a", methods=methods)
    return study(folder / "study", "data-efficiency", folder / "a")


def table1(folder):
    make_report(folder / "a", dataset="scienceqa", seed=1, text_only=False)
    make_report(folder / "b", dataset="scienceqa", seed=2, text_only=True)
    return study(folder / "study", "table1", folder)


def explained(folder, *, shown=True):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 500, 3), dtype=np.uint8))
    weights = np.random.default_rng(1).random(40).astype(np.float32)
    patches = Patches(list(range(40)), weights / weights.sum(), 8, True)
    words = [Word(f" word{i}" * (1 + i % 3), [40 + i], [0.01]) for i in range(60)]
    pictures = [picture(noise) if shown else None]
    page = render_attention(
        "a-sample-id-that-is-rather-long-0001: P(correct) = 0.5", "yes", ["A note."], pictures, [patches], words
    )
    folder.mkdir(parents=True)
    (folder / "attention.html").write_text(page)
    return folder / "attention.html"


WRONG = (ResultWarning("wrong", "probe learned from the test split: its figures are of samples that it has seen"),)
PAGES = {
    "report-many": functools.partial(report, warnings=WRONG),
    "report-few": functools.partial(report, n=14, right=0.95, large=None, names=("probe",), priced=False),
    "report-perfect": functools.partial(report, strength=3.0, large=0.4, names=("probe", "relope")),
    "report-useless": functools.partial(report, strength=0.0, right=0.97, large=0.99, names=("probe",), priced=False),
    "figure2": figure2,
    "figure3": figure3,
    "data-efficiency": efficiency,
    "table1": table1,
    "explain": explained,
    "explain-without-image": functools.partial(explained, shown=False),
}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Make a page once, whatever the views it is looked at in."""
    return functools.cache(lambda name: PAGES[name](tmp_path_factory.mktemp("pages") / name))


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("name", PAGES)
def test_d_a_page_is_laid_out_whole(browser, page_of, name, view, tmp_path):
    assert faults_of(browser, page_of(name), view, tmp_path / "page.png") == []
    assert (tmp_path / "page.png").stat().st_size > 5_000


SOUND = "<!doctype html><meta name=viewport content='width=device-width'><p>text</p>"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "<svg class=figure width=99 height=99><text x=9 y=20>one</text><text x=12 y=22>two</text></svg>",
            "labels overlap",
        ),
        ("<svg class=figure width=99 height=99><text x=80 y=20>cut here</text></svg>", "label cut by its figure"),
        (
            "<svg width=99 height=99><clipPath id=c><rect x=9 y=9 width=40 height=40 /></clipPath>"
            "<path clip-path='url(#c)' d='M10 10V90'/></svg>",
            "drawn beyond the plot",
        ),
        ("<div style='overflow:auto;width:90px'><p style='width:300px'>wide text</p></div>", "cut by its box"),
        ("<div style='overflow:hidden;width:90px;white-space:nowrap'>text that is cut by it</div>", "cut by its box"),
        ("<p style='width:900px'>very wide</p>", "the page scrolls sideways"),
        ("<script>console.error('bad')</script>", "console: bad"),
        ("<script>undefinedFunction()</script>", "error: "),
        ("<img src='http://example.org/x.png'>", "fetched: http://example.org"),
    ],
)
def test_d_what_is_wrong_is_found(browser, tmp_path, body, told):
    path = tmp_path / "page.html"
    path.write_text(SOUND)
    assert faults_of(browser, path, View(400, "light")) == []
    path.write_text(SOUND + body)
    assert any(fault.startswith(told) for fault in faults_of(browser, path, View(400, "light")))


def test_d_a_report_prints(browser, page_of):
    context = browser.new_context()
    page = context.new_page()
    page.goto(page_of("report-many").as_uri())
    assert io.BytesIO(page.pdf(prefer_css_page_size=True)).read(5) == b"%PDF-"
    context.close()
