"""The documentation site: pages from outside docs/, and links that lead where they lead in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(place)))
    return place


def article(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]


def test_readme_is_the_first_page_and_its_links_and_pictures_are_there(site: Path) -> None:
    page = article(site / "index.html")
    links = {link for link in re.findall(r'(?:href|src)="([^"#:]+)"', page)}
    assert {"architecture.html", "methods/index.html", "speed.html", "pictures/sweep.svg"} <= links
    assert all((site / link).is_file() for link in links)


def test_pages_in_folders_and_outside_docs_link_to_each_other(site: Path) -> None:
    assert 'href="../tuning.html"' in article(site / "methods" / "index.html")
    assert 'href="speed.html"' in article(site / "fast-pass.html")
    assert 'href="changelog.html"' in article(site / "contributing.html")


def test_a_link_to_code_that_is_no_page_keeps_its_label(site: Path) -> None:
    page = article(site / "add-a-method.html")
    assert "examples/genies_plugin" in page and 'href="../examples' not in page


def test_no_page_asks_another_host_for_a_script_font_or_picture(site: Path) -> None:
    for page in site.rglob("*.html"):
        asked = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(https?:)?//', page.read_text(encoding="utf-8"))
        assert asked == [], page
