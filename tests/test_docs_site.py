"""The documentation site has the files of the repository's root, with links to pages of the site."""

from __future__ import annotations

from pathlib import Path

import yaml

from scripts.docs_pages import LINKED, PAGES, ROOT, as_page

SITE = (ROOT / "mkdocs.yml").read_text()


def test_links_of_the_root_point_to_pages_of_the_site() -> None:
    text = "[a](docs/models.md#mini) [b](CONTRIBUTING.md) [c](configs/default.toml) ![d](docs/page.png)"
    assert as_page(text) == "[a](models.md#mini) [b](contributing.md) [c](configs/default.toml) ![d](page.png)"


def test_every_page_is_in_the_navigation() -> None:
    pages = {*PAGES.values(), *(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))}
    assert [page for page in sorted(pages) if f": {page}\n" not in SITE] == []


def test_added_files_exist() -> None:
    assert all(Path(ROOT / name).is_file() for name in (*PAGES, *LINKED))


def test_site_uses_no_fonts_of_other_hosts() -> None:
    assert yaml.safe_load(SITE)["theme"]["font"] is False
