"""The page of `relope view` without a browser: what is shown, what is chosen, who is answered, what is kept."""

import json
import logging
import re
import signal
import threading

import httpx
import numpy as np
import pytest
from made_view import EVIL, N, made_pair, view_of
from starlette.testclient import TestClient
from upstream_stub import until

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.routing import routing_curve
from relope.spec import EvaluateSpec, ExtractSpec, FitSpec, PredictSpec, ViewSpec
from relope.steps import view as viewing
from relope.steps.view_inputs import viewed
from relope.store import open_store
from relope.store.grades import counting, read_grades
from relope.types import silent
from relope.view.app import make_app
from relope.view.query import read_query, select
from relope.view.tally import tallies


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return made_pair(tmp_path_factory.mktemp("view") / "pair")


@pytest.fixture(scope="module")
def view(pair):
    return view_of(pair)


@pytest.fixture(scope="module")
def client(view):
    return TestClient(make_app(view), base_url="http://127.0.0.1:8010")


def ids(view, **asked):
    query = read_query({name: str(value) for name, value in asked.items()}, view.board, view.budget)
    chosen = select(view.board, view.verdicts, query)
    return [5 if name == EVIL else int(name[1:]) for name in view.board.samples["id"][chosen]]


def test_filters_choose_what_they_say(view):
    everything = set(range(N))
    assert set(ids(view)) == everything
    assert set(ids(view, split="dev")) == set(range(100, N))
    assert set(ids(view, grade="wrong")) == {k for k in everything if k % 3 == 0}
    assert set(ids(view, grade="wrong", large="right")) == {k for k in everything if k % 3 == 0 and k % 7}
    assert ids(view, words="12? WHAT s012") == [12]
    assert ids(view, words="taken which?") == [5]
    assert ids(view, words=".*") == []
    assert set(ids(view, router="up", low=10, high=20)) == {k for k in everything if 10 <= 100 * k / N <= 20}
    assert ids(view, router="up", sort="low") == sorted(everything)
    assert ids(view, router="down", sort="low") == sorted(everything, reverse=True)
    unlike = ids(view, sort="spread")
    assert (unlike[0], unlike[-1]) == (0, N // 2)


def test_a_budget_escalates_the_lowest_of_each_split(view):
    test, dev = set(range(20)), set(range(100, 106))
    assert set(ids(view, router="up", decision="escalated", budget=20)) == test | dev
    assert set(ids(view, router="up", decision="kept", budget=20)) == set(range(N)) - test - dev
    assert ids(view, router="up", decision="escalated", budget=0) == []
    ups, downs = test | dev, set(range(80, 100)) | set(range(124, 130))
    assert set(ids(view, differ=1, budget=20)) == ups ^ downs


def test_counts_are_those_of_the_report(view):
    small = np.array([k % 3 != 0 for k in range(100)])
    large = np.array([k % 7 != 0 for k in range(100)])
    query = read_query({"split": "test", "router": "up", "budget": "20"}, view.board, view.budget)
    ours, theirs, system = tallies(view.board, view.verdicts, query, select(view.board, view.verdicts, query))
    assert (ours.right, ours.n) == (small.sum(), 100) and (theirs.right, theirs.n) == (large.sum(), 100)
    curve = routing_curve(np.arange(100) / N, small, large, seed=0)
    assert system.share == pytest.approx(curve.accuracy[20])
    assert ours.interval[0] < ours.share < ours.interval[1]


def test_what_is_chosen_by_its_outcome_gets_no_interval(view):
    query = read_query({"grade": "wrong"}, view.board, view.budget)
    counts = list(tallies(view.board, view.verdicts, query, select(view.board, view.verdicts, query)))
    assert counts[0].right == 0 and [count.interval for count in counts] == [None] * 3


def test_every_text_is_escaped(client):
    for path in ("/", f"/?{httpx.QueryParams(sample=EVIL)}", f"/sample?{httpx.QueryParams(sample=EVIL)}"):
        page = client.get(path).text
        assert "document.title" in page and "<script>" not in page and "<img src=x" not in page
        assert not re.search(r"""<[^>"]*\son\w+=|\sstyle=|javascript:""", page), path
    assert "<script>" not in client.get("/list").json()["rows"]


def test_headers_let_no_script_in_and_nobody_frame_it(client):
    for path in ("/", "/list", "/view.js", "/sample?sample=s001", "/image/1/0", "/nothing", "/sample?sample=none"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy, path
        assert "frame-ancestors 'none'" in policy and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8010", "127.0.0.1.evil.example", ""])
def test_a_page_of_the_web_reaches_nothing_by_another_name(client, host):
    for path in ("/", "/list", "/sample?sample=s001", "/view.js", "/image/1/0"):
        assert client.get(path, headers={"host": host}).status_code == 403


def test_with_a_key_everything_needs_it(pair, monkeypatch):
    monkeypatch.setenv("RELOPE_API_KEY", "k" * 24)
    client = TestClient(make_app(view_of(pair)), base_url="http://127.0.0.1")
    assert client.get("/").status_code == 401 and "Basic" in client.get("/").headers["www-authenticate"]
    assert client.get("/", auth=("anybody", "k" * 24)).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/../../etc/passwd", 404), ("/static/../../../x", 404), ("/image/-1/0", 404), ("/image/999999/0", 404),
     ("/image/1/99", 404), ("/image/1/..%2f..", 404), ("/thumb/99999999999999999999", 404),
     ("/sample?sample=../../x", 404), ("/list?start=-1", 400), ("/list?start=1e9", 400), ("/list?split=none", 400),
     ("/list?router=none", 400), ("/list?budget=101", 400), ("/list?low=²", 400), ("/looks?sample=s001", 404),
     ("/templates/page.html.j2", 404)],
)  # fmt: skip
def test_what_is_not_there_is_refused(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status and "error" in answer.json()


def test_the_list_comes_in_blocks(client):
    assert client.get("/thumb/1").headers["content-type"] == "image/svg+xml"  # no picture is kept
    first, last = client.get("/list").json(), client.get("/list?start=120").json()
    assert (first["total"], first["rows"].count('class="row"'), last["rows"].count('class="row"')) == (N, 60, N - 120)
    assert client.get("/list?start=5000").json()["rows"].strip() == ""


def post(client, **body):
    return client.post("/grade", json={"side": "small", "sample": "s003", "correct": True} | body)


def test_corrections_are_grades_of_their_own_that_evaluate_takes(tmp_path):
    folder = made_pair(tmp_path / "pair")
    view = view_of(folder)
    client = TestClient(make_app(view), base_url="http://127.0.0.1")
    assert post(client).json() == {"kept": True}
    assert post(client, sample="s004", correct=False).status_code == 200
    assert post(client, sample="s006").status_code == 200 and post(client, sample="s006", correct=None).is_success
    assert post(client, side="large", sample="s007").status_code == 200
    store, large = open_store(folder / "small.zarr"), open_store(folder / "large.zarr")
    assert counting(store) == counting(large) == "imported@1"  # they count only where they are asked for
    table = read_grades(store, "human@1").table
    by = dict(table.select("id", "by").iter_rows())
    right = dict(table.select("id", "correct").iter_rows())
    assert {name for name, whose in by.items() if whose == "human"} == {"s003", "s004"}
    assert right["s003"] is True and right["s004"] is False and right["s006"] is False and by["s006"] == "imported@1"
    assert ids(view, grade="corrected") == [3, 4, 7]

    report = steps.run(EvaluateSpec(
        store=str(folder / "small.zarr"), large_store=(str(folder / "large.zarr"),), grades="human@1", split=("test",),
        bootstrap=100, out=tmp_path / "report"))  # fmt: skip
    assert report.samples["correct"].sum() == sum(k % 3 != 0 for k in range(100))  # one up, one down
    assert report.samples["large_correct"].sum() == sum(k % 7 != 0 for k in range(100)) + 1
    assert "of the 100 grades of small, 2 were given by hand (human@1); the others are those of imported@1" in (
        " ".join(warning.text for warning in report.warnings)
    )
    again = view_of(folder)  # what was said is there when the page is opened anew, also over corrected grades
    assert ids(again, grade="corrected") == ids(view_of(folder, grades="human@1"), grade="corrected") == [3, 4, 7]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"side": "both"}, 400), ({"correct": "yes"}, 400), ({"sample": 3}, 400), ({"sample": "none"}, 404)],
)
def test_a_correction_that_says_nothing_is_refused(client, pair, changes, status):
    assert post(client, **changes).status_code == status
    assert not (pair / "small.zarr" / "grades" / "human@1.parquet").exists()


def test_another_page_cannot_correct(client, pair):
    body = json.dumps({"side": "small", "sample": "s003", "correct": True})
    sent = {"content-type": "application/json"}
    assert client.post("/grade", content=body, headers=sent | {"origin": "http://evil.example"}).status_code == 403
    assert client.post("/grade", content=body, headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/grade", content=body, headers=sent | {"host": "evil.example"}).status_code == 403
    assert client.get("/grade").status_code == 405
    assert not (pair / "small.zarr" / "grades" / "human@1.parquet").exists()


def test_a_report_is_shown_with_its_own_numbers(tmp_path):
    folder = made_pair(tmp_path / "pair")
    made = steps.run(EvaluateSpec(
        store=str(folder / "small.zarr"), large_store=(str(folder / "large.zarr"),), split=("test", "dev"),
        bootstrap=100, seed=3))  # fmt: skip
    seen = viewed(ViewSpec(source=str(made.path)))
    assert seen.large is not None and len(seen.board) == N and {queue.name for queue in seen.board.queues} == {
        "up", "down"}  # fmt: skip
    view = view_of(folder, source=str(made.path), large_store=None)
    assert set(ids(view, router="up", decision="escalated", budget=20)) == set(range(26))  # both splits share it
    with pytest.raises(InvalidInputError, match="says itself what it is of"):
        viewed(ViewSpec(source=str(made.path), split=("test",)))
    (folder / "small.zarr").rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(NotFoundError, match="neither in it nor beside it"):
        viewed(ViewSpec(source=str(made.path)))
    moved = ViewSpec(source=str(made.path), store=str(tmp_path / "elsewhere.zarr"))
    assert len(viewed(moved).board) == N


def test_scores_of_something_else_are_left_out_and_named(tmp_path):
    folder = made_pair(tmp_path / "pair")
    (folder / "small.zarr.scores" / "odd.parquet").write_bytes(b"PAR1 and nothing of it")
    seen = viewed(ViewSpec(source=str(folder / "small.zarr")))
    assert [queue.name for queue in seen.board.queues] == ["down", "up"]
    assert len(seen.board.notes) == 1 and seen.board.notes[0].startswith("odd is left out: ")


def test_a_large_store_of_other_samples_is_refused(pair, tmp_path, store_path):
    other = made_pair(tmp_path / "other", n=20)
    with pytest.raises(InvalidInputError, match="answers of one model, made alike"):
        viewed(ViewSpec(source=str(pair / "small.zarr"), large_store=str(pair / "small.zarr")))
    with pytest.raises(InvalidInputError, match="has none of the"):
        viewed(ViewSpec(source=str(store_path), large_store=str(other / "large.zarr")))


def test_the_probe_s_weights_lie_over_the_image(tmp_path):
    store = tmp_path / "tiny.zarr"
    steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=("train",), limit=60, out=store, device="cpu"))
    asked = {"epochs": 1}
    steps.run(FitSpec(method="attention-probe", store=str(store), split=("train",), set=asked, device="cpu"))
    router = f"{store}.routers/attention-probe"
    steps.run(PredictSpec(router=router, store=str(store), split=("train",), device="cpu"))
    spec = ViewSpec(source=str(store))
    page = viewing.page_of(spec, viewed(spec))
    assert page.router == "attention-probe"
    name, client = page.board.samples["id"][0], TestClient(make_app(page), base_url="http://localhost")
    for path in ("/thumb/1", "/image/1/0"):
        image = client.get(path)
        assert image.headers["content-type"] == "image/webp" and image.content[8:12] == b"WEBP"
    shown = client.get("/looks", params={"sample": name}).text
    assert shown.count("<rect") == 16 and 'viewBox="0 0 4 4"' in shown and "of the weight lies on" in shown
    with pytest.raises(NotFoundError, match="no router in"):
        viewing.page_of(ViewSpec(source=str(store), router=tmp_path), viewed(spec))


def test_it_listens_until_it_is_told_to_end(pair, monkeypatch):
    told = []
    monkeypatch.setattr(logging.getLogger("relope.view"), "info", lambda text, *values: told.append(text % values))
    found = []

    def client():
        assert until(lambda: told)
        url = re.search(r"http://127\.0\.0\.1:\d+", told[0])[0]
        found.append(httpx.get(url).status_code)
        signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=client)
    thread.start()
    outcome = steps.run(ViewSpec(source=str(pair / "small.zarr"), port=0), silent)
    thread.join(10)
    assert found == [200] and outcome.facts == {"samples": N, "corrected": 0}
