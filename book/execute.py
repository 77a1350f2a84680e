"""Run notebooks and store their outputs: `python book/execute.py notebooks/NAME.ipynb …`.

The outputs are those of a lesson at the small scale, on the images that CIFAR_FAST_DATA names. Nothing in them is
edited, but progress bars, which overwrite themselves, are left out, and `pages.py` keeps the tables of recorded runs up
to date.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path

import nbformat
from address import slug
from nbclient import NotebookClient
from tqdm import tqdm

from cifar_fast_utils.data import load
from cifar_fast_utils.notebook import SCALE_VARIABLE, provenance

CELL_SECONDS = 1800
SILENCE = 2.0
"""Seconds that a cell may take without a progress bar."""
FIRST_OWNER = "OWNER"
"""Apart from the rest of the address, or `make address` would write a fork's over it."""


def digest(notebook: nbformat.NotebookNode) -> str:
    """Twelve hex digits of the code cells' sources: outputs with another digest are another version's."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    code = code.replace(slug(), f"{FIRST_OWNER}/bag-of-tricks")  # the first cell names a fork's own
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def cell_seconds(times: dict[str, str]) -> float:
    """How long a cell ran, by the times of the kernel's messages."""
    begun, ended = (times.get(f"iopub.status.{state}") for state in ("busy", "idle"))
    if not begun or not ended:
        return 0.0
    start, end = (datetime.fromisoformat(stamp.replace("Z", "+00:00")) for stamp in (begun, ended))  # Python 3.10: no Z
    return (end - start).total_seconds()


def without_bars(text: str) -> str:
    """What went to stderr, without the lines that overwrite themselves."""
    text = re.sub(r"[^\n]*\r *\r", "", text)  # a bar that has wiped itself out, and not what follows on its line
    return "".join(line for line in re.split(r"(?<=\n)", text) if "\r" not in line)


def execute(path: Path) -> None:
    """Run a notebook from top to bottom in its own folder and store outputs and provenance in it."""
    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    seconds = time.perf_counter() - began
    where = None
    for number, cell in enumerate(notebook.cells):
        took = cell_seconds(cell.metadata.pop("execution", {}))
        if cell.cell_type == "code":
            if took > SILENCE and not any("\r" in o.get("text", "") for o in cell.outputs):
                tqdm.write(f"{path.name}: cell {number} took {took:.1f} s without a progress bar", file=sys.stderr)
            for output in cell.outputs:
                if output.get("name") == "stderr":
                    output.text = without_bars(output.text)
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
            where = where or provenance(cell.outputs)
    if where is None:
        sys.exit(f"{path}: it does not call `notebook.start`, which says where the outputs come from")
    notebook.metadata["cifar_fast"] = {**where, "code": digest(notebook), "seconds": round(seconds)}
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ[SCALE_VARIABLE] = "small"
    if load("auto").name == "synthetic":
        sys.exit("outputs are stored on real images only: name some in CIFAR_FAST_DATA")
    for name in tqdm(sys.argv[1:], unit="notebook"):
        execute(Path(name))
