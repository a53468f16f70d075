"""The site that `make docs` builds: nothing in it is broken, everything is in it, and it works without a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_docs import PAGES, anchors
from test_public import PUBLIC, ROOT

MISSING = [name for name in ("furo", "myst_parser", "sphinx") if importlib.util.find_spec(name) is None]


class Page(HTMLParser):
    """A page of the site: the ids in it, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag in ("img", "script", "iframe", "source") or given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(given.get("src") or given.get("href") or "")


@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} of the extra `docs` is not installed")
def test_the_site_builds_without_a_warning_and_works_offline(tmp_path: Path) -> None:
    """One test, because it takes long to build."""
    (command,) = re.findall(r"-m (sphinx .*) site$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", *command.split(), "-d", str(tmp_path / "doctrees"), str(site)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr

    pages = {page: Page(site / page.relative_to(ROOT).with_suffix(".html")) for page in PAGES}
    lost = {str(file.relative_to(ROOT)): anchors(file) - page.ids for file, page in pages.items()}
    assert {file: ids for file, ids in lost.items() if ids} == {}, "anchors on GitHub that are none on the site"
    assert [source for page in pages.values() for source in page.loads if re.match(r"\w+:|//", source)] == []
    documented = set().union(*(Page(file).ids for file in site.glob("docs/api/*.html")))
    assert [name for name in PUBLIC if name not in documented] == []
