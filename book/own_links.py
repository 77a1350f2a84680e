"""A Sphinx extension: links to this repository's pages, as they work in Colab and on GitHub, stay within the site."""

from __future__ import annotations

from typing import Any

from address import slug


def stay(app: Any, document: str, source: list[str]) -> None:
    """Turn links to pages of book/ on GitHub into links from the sources' root; `source` is one text, changed here."""
    source[0] = source[0].replace(f"https://github.com/{slug()}/blob/main/book/", "/book/")


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", stay)
    return {"parallel_read_safe": True}
