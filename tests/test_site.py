"""The site: the reference names everything there is, every page is in the menu, no link leads nowhere."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

import relope
from relope import registry
from relope.fields import Positional, marked
from relope.probes.protocol import make
from relope.spec import SPECS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    """recipes/docs_site.py, which finds the recipes beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "recipes")
        spec = importlib.util.spec_from_file_location("docs_site", ROOT / "recipes" / "docs_site.py")
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        yield made
    sys.modules.pop("reference", None)


@pytest.fixture(scope="module")
def gathered(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    site.gather(folder)
    return folder


@pytest.mark.parametrize("step", SPECS)
def test_every_command_and_flag_is_in_the_reference(gathered, step):
    page = (gathered / "reference" / "commands.md").read_text()
    (section,) = re.findall(rf"^## relope {step}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    first = marked(SPECS[step], Positional)
    for name in SPECS[step].model_fields:
        assert name in first or f"| `--{name.replace('_', '-')}` |" in section, name
    assert section.count("\n| `") == len(SPECS[step].model_fields)


def test_every_name_of_python_is_in_the_reference(gathered):
    page = (gathered / "reference" / "python.md").read_text().replace("\\", "")
    for name in relope.__all__:
        assert f"## relope.{name}\n" in page
    assert "store: the small model's store" in page and "`predict_proba`" in page


@pytest.mark.parametrize("method", registry.names("methods"))
def test_every_setting_of_a_method_is_in_the_reference(gathered, method):
    page = (gathered / "reference" / "settings.md").read_text()
    (section,) = re.findall(rf"^## {method}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section.count("\n| `") == len(type(make(method, {}).params).model_fields)


def pages_of(menu):
    for entry in menu:
        inside = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [inside] if isinstance(inside, str) else pages_of(inside)


def test_every_page_is_in_the_menu_once(gathered):
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {path.relative_to(gathered).as_posix() for path in gathered.rglob("*.md")}
    listed = list(pages_of(menu))
    assert sorted(listed) == sorted({page for page in pages if not page.startswith("files/")}), "mkdocs.yml: nav"


def test_links_lead_where_they_did(site, gathered):
    files, pages = set(), site.sources()
    text = "[a](docs/serving.md#what-it-costs) [b](https://x.org) [c](pipelines.yaml) `[d](none.md)` [e](#here)"
    made = site.rewritten(text, "README.md", pages, files)
    assert made == (
        "[a](serving.md#what-it-costs) [b](https://x.org) [c](files/pipelines.yaml) `[d](none.md)` [e](#here)"
    )
    assert site.rewritten("[t](../tiny.md)", "docs/methods/p-true.md", pages, files) == "[t](../tiny.md)"
    assert site.rewritten("[r](../../README.md)", "docs/methods/p-true.md", pages, files) == "[r](../index.md)"
    assert files == {"pipelines.yaml"} and (gathered / "files" / "pipelines.yaml").is_file()


@pytest.mark.parametrize("link", ["none.md", "../../etc/passwd", "docs"])
def test_a_link_that_leads_nowhere_stops_the_site(site, link):
    with pytest.raises(SystemExit, match="leads nowhere"):
        site.rewritten(f"[a]({link})", "README.md", site.sources(), set())


def test_a_heading_that_is_gone_is_found(site, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "a.html").write_text('<h2 id="one">x</h2><a href="#one">1</a><a href="m/b.html#two">2</a>')
    (tmp_path / "m" / "b.html").write_text('<a href="../a.html#one">1</a><a href="../a.html#none">2</a>')
    assert sorted(site.lost_anchors(tmp_path)) == ["a.html: m/b.html#two", "m/b.html: ../a.html#none"]


def test_the_markdown_lies_beside_each_page_and_llms_txt_names_it(site, gathered, tmp_path):
    (tmp_path / "assets").mkdir()
    for folder in ("methods", "reference"):
        (tmp_path / folder).mkdir()
    (tmp_path / "methods" / "x.html").write_text(f'<script src="{site.FETCHED}"></script>')
    site.finish(gathered, tmp_path)
    named = re.findall(r"\]\((.+)\)", (tmp_path / "llms.txt").read_text())
    assert "index.md" in named and "methods/probe.md" in named and all((tmp_path / name).is_file() for name in named)
    assert (tmp_path / "methods" / "x.html").read_text() == '<script src="../assets/from_disk.js"></script>'
    (tmp_path / "y.html").write_text('<script src="https://cdn.example/x.js"></script>')
    with pytest.raises(SystemExit, match="fetches something from the network"):
        site.finish(gathered, tmp_path)
