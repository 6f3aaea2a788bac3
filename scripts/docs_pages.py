"""A hook of mkdocs: add the Markdown files of the repository's root, and the files that they link to, to the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
LINKED = ("configs/default.toml",)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files; mkdocs calls this before it reads the pages."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=as_page((ROOT / name).read_text(encoding="utf-8"))))
    for name in LINKED:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def as_page(text: str) -> str:
    """Point the links of a file of the root to the same files in the site."""
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    return re.sub(r"\]\((" + "|".join(map(re.escape, PAGES)) + r")\b", lambda link: f"]({PAGES[link[1]]}", text)
