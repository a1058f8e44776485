"""The page at ``/`` in Chromium: nothing overlaps, is cut, scrolls sideways or is fetched, at any width and colour."""

import numpy as np
import pytest
from browser import VIEWS, executable, faults_of
from made_bundle import made_bundle
from stub_engine import StubEngine

from relope.evaluate.numbers.costs import ModelCost
from relope.serve.large import LargeModel
from relope.serve.service import Options, Service
from relope.serve.status import bars, status_page


def test_bars_are_shares_of_their_own():
    made = bars([0] * 10 + [30, 10] + [0] * 8, [0.52] * 5 + [0.97] * 5)
    assert [bar.live for bar in made[10:12]] == [100.0, pytest.approx(100 / 3)] and made[10].n == 30
    assert made[10].calibrated == made[19].calibrated == pytest.approx(100 * 0.5 / 0.75)


@pytest.mark.browser
@pytest.mark.parametrize("n", [0, 1500])
@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_page_reads_well(tmp_path, view, n):
    from playwright.sync_api import sync_playwright

    price = ModelCost(dollars_per_million_prompt_tokens=1.0, dollars_per_million_answer_tokens=2.0)
    model = LargeModel(base_url="http://h/v1", name="a/model-with-a-rather-long-name-2026-11-26", price=price)
    service = Service(made_bundle(), StubEngine(), model, Options(small_price=price))
    for score in np.random.default_rng(0).beta(5, 2, n):
        service.history.add(float(score))
    (tmp_path / "status.html").write_text(status_page(service), encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable())
        try:
            assert faults_of(browser, tmp_path / "status.html", view) == []
        finally:
            browser.close()
