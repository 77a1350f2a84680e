"""Set the repository's address for a fork, everywhere: `python book/address.py https://github.com/NAME/REPOSITORY`.

It stands in _config.yml; where else it appears (links to Colab, install lines, the README), it is the same, which the
tests check. Wherever the old OWNER/NAME stands in a file that git knows, the new one takes its place.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def slug(root: Path = ROOT) -> str:
    """OWNER/NAME, as _config.yml has it."""
    settings = (root / "_config.yml").read_text(encoding="utf-8")
    found = re.search(r"^  url: https://github\.com/([\w.-]+/[\w.-]+)$", settings, re.MULTILINE)
    if not found:
        sys.exit("_config.yml holds no address of the form https://github.com/OWNER/NAME")
    return found[1]


def move(url: str, root: Path = ROOT) -> list[str]:
    """Put the address in the place of the old one; the names of the files that changed."""
    new = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", url)
    if not new:
        sys.exit(f"'{url}' is no address of the form https://github.com/OWNER/NAME")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        sys.exit(f"{root} is not a git checkout: {listed.stderr.strip()}")
    old = re.compile(rb"(?<![\w.-])" + re.escape(slug(root).encode()) + rb"(?![\w-])")
    changed = {}
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            content = (root / name).read_bytes()
            if (moved := old.sub(new[1].encode(), content)) != content:
                changed[name] = moved
    # _config.yml last: it says what the old address is, should this be stopped half-way and called again.
    names = sorted(changed, key="_config.yml".__eq__)
    for name in names:
        (root / name).write_bytes(changed[name])
    return names


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for changed_name in move(sys.argv[1]):
        print(changed_name)
