"""The page of `relope view` in Chromium: clicks, keys, filters, the correction, a question that tries to run."""

import threading

import pytest
from browser import FAULTS, executable
from made_view import EVIL, N, made_pair, view_of

from relope.store import open_store
from relope.store.grades import read_grades

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable())
        yield opened
        opened.close()


@pytest.fixture
def served(tmp_path):
    """The address of the page of a pair, and its folder."""
    from relope.serve.listening import Listener
    from relope.view.app import make_app

    folder, started, found = made_pair(tmp_path / "pair"), threading.Event(), []
    app = make_app(view_of(folder))
    listener = Listener(app, "127.0.0.1", 0, lambda url: (found.append(url), started.set()), header_s=5.0, drain_s=1.0)
    thread = threading.Thread(target=listener.serve_until_told)
    thread.start()
    assert started.wait(10)
    yield found[0], folder
    listener.should_exit = True
    thread.join(10)


@pytest.fixture
def look(browser):
    """Open an address at a width; everything that goes wrong there is told when the test ends."""
    told, contexts = [], []

    def opened(url, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
        contexts.append(context)
        page, own = context.new_page(), url.split("/?")[0]
        page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else told.append(request.url))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    # The data of this pair has no images to be read again; what the policy stops is told on the console.
    assert [text for text in told if "404" not in text and "Content Security Policy" not in text] == []


def heading(page, name):
    page.wait_for_function("name => document.querySelector('.of').dataset.id === name", arg=name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_overlaps_or_is_cut(served, look, width, scheme):
    for path in ("/", "/?sample=s010&grade=right&router=up&sort=high"):
        page = look(f"{served[0]}{path}", width, scheme)
        assert page.evaluate(FAULTS) == []


def test_clicks_and_keys_walk_the_list_and_the_address_goes_along(served, look):
    page = look(f"{served[0]}/?router=up&sort=low")
    page.click(".row >> nth=2")
    heading(page, "s002")
    page.keyboard.press("j")
    heading(page, "s003")
    page.keyboard.press("k")
    page.keyboard.press("k")
    heading(page, "s001")
    assert "sample=s001" in page.url and "sort=low" in page.url
    again = look(page.url)
    assert again.inner_text(".of h2") == "s001" and again.inner_text(".place") == f"2 of {N}"
    assert again.locator(".row.chosen").get_attribute("data-id") == "s001"


def test_from_a_sample_that_is_not_listed_the_first_one_is_next(served, look):
    page = look(f"{served[0]}/?sample=s004&grade=wrong&router=up&sort=low")
    assert page.inner_text(".place") == "not among the 44 shown"
    page.keyboard.press("j")
    heading(page, "s000")


def test_filters_slider_and_words_change_what_is_listed(served, look):
    page = look(f"{served[0]}/?router=up")

    def found(n):
        page.wait_for_function("n => document.querySelector('.found b').textContent === n", arg=str(n))

    page.select_option("[name=grade]", "wrong")
    found(44)
    page.select_option("[name=decision]", "escalated")
    found(9)  # the multiples of 3 among 0 … 19 and 100 … 105
    page.fill("[name=budget]", "50")
    found(22)
    page.wait_for_selector(".routers caption:has-text('when 50 % are escalated')")
    assert page.inner_text("output") == "50 %" and "budget=50" in page.url
    page.fill("[name=words]", "s012")
    found(1)
    page.click(".quick a:text-is('All')")
    found(N)


def test_the_list_scrolls_to_its_end(served, look):
    page = look(f"{served[0]}/?router=up&sort=low")
    page.evaluate("document.getElementById('scroll').scrollTop = 1e9")
    page.wait_for_selector(f".row[data-at='{N - 1}']")
    assert page.locator(f".row[data-at='{N - 1}']").get_attribute("data-id") == f"s{N - 1}"


def test_a_correction_is_kept_shown_and_taken_back(served, look):
    url, folder = served
    page = look(f"{url}/?sample=s003&router=up")
    assert "wrong" in page.inner_text("[data-side=small] .grade")
    page.click("[data-side=small] button:text('Right')")
    page.wait_for_selector("[data-side=small].right >> text=you, by hand")
    page.wait_for_selector("text=1 grade corrected")
    assert dict(read_grades(open_store(folder / "small.zarr"), "human@1").table.select("id", "by").rows())["s003"] == (
        "human"
    )
    page.wait_for_selector(".row[data-id=s003] .hand")
    page.keyboard.press("x")
    page.wait_for_selector("[data-side=small].wrong >> text=judged by imported@1")
    page.keyboard.press("r")
    page.wait_for_selector("[data-side=small].right")
    page.keyboard.press("w")
    page.wait_for_selector("[data-side=small].wrong >> text=you, by hand")


def test_a_question_cannot_run_a_script(served, look):
    page = look(f"{served[0]}/?words=taken")
    assert EVIL in page.inner_text(".question") and EVIL in page.inner_text("[data-side=small] .response")
    page.click(".row")
    page.select_option("[name=grade]", "right")
    page.wait_for_selector(".of[data-id^='<script>']")
    page.wait_for_timeout(300)
    assert page.title() == "small on small" and page.locator(".asked script, .asked img, .row script").count() == 0
    ran = page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'document.title=1';"
                        " document.body.append(s); return document.title }")  # fmt: skip
    assert ran == "small on small"  # not even where a hole let one in


def test_a_narrow_screen_shows_list_or_sample(served, look):
    page = look(f"{served[0]}/", 420)
    assert page.is_visible("#rows") and not page.is_visible("#sample")
    page.click(".filters")
    assert page.is_visible("[name=grade]")
    page.click(".row >> nth=1")
    page.wait_for_selector("#sample", state="visible")
    assert not page.is_visible("#rows")
    page.click(".back")
    assert page.is_visible("#rows")
