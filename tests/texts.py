"""The book's texts on one line each, for tests that hold their figures to what was measured."""

import functools
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent


@functools.cache
def page(name: str) -> str:
    """Of a Markdown file, by its path without the ending."""
    return " ".join((ROOT / f"{name}.md").read_text(encoding="utf-8").split())


@functools.cache
def chapter(number: str) -> str:
    """Of a notebook, its cells without their outputs."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells).split())
