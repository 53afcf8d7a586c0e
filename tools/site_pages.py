"""Pages of the documentation site that lie outside docs/, and links that hold both in the repository and in the site.

mkdocs loads this file as a hook. A page is written once, where a reader of the repository looks for it, and its links
are relative to that place.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "perf/README.md": "speed.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point links at the site's pages. Of a link to a file that is no page (an example, a licence) the label stays."""
    source = os.path.relpath(page.file.abs_src_path or "", ROOT)
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        label, target, anchor = link[1], link[2], link[3] or ""
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / found / "README.md").is_file():
            found = posixpath.join(found, "README.md")
        if not (ROOT / found).exists():
            # Left as it stands, so that the strict build names it.
            return link[0]
        within = PAGES.get(found) or found.removeprefix("docs/")
        if within == found:
            return label
        return f"[{label}]({posixpath.relpath(within, here or '.')}{anchor})"

    return LINK.sub(moved, markdown)
