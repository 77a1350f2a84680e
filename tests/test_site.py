"""The built site in a real browser."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urldefrag, urljoin

import address
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
PAGES = [
    f"{name}.html" for name in re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
]


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew with warnings as errors."""
    out = tmp_path_factory.mktemp("site")
    book = Path(sys.executable).with_name("jupyter-book")
    command = [str(book), "build", str(ROOT), "--path-output", str(out), "--all", "-W", "--keep-going", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "_build" / "html"


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert not (os.environ.get("CI") and sys.platform == "linux"), "no browser, where one must be"
        pytest.skip("needs a browser: install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page that may not ask anything of anybody but the site, nor complain."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith((site, "data:")) else wrong.append(asked.url))
    yield opened
    opened.close()
    assert wrong == []


# Thousands of pieces of code and of cells look alike: some of each kind are judged.
THIN_OUT = """() => {
    const seen = {};
    for (const piece of document.querySelectorAll(".highlight span[class]")) {
        seen[piece.className] = (seen[piece.className] || 0) + 1;
        if (seen[piece.className] > 3) piece.replaceWith(...piece.childNodes);
    }
    for (const table of document.querySelectorAll("table"))
        [...table.querySelectorAll("tbody tr")].slice(10).forEach(row => row.remove());
}"""
ALL_RULES = {"resultTypes": ["violations"], "preload": False}  # which would ask for files that are not there
RULES = {"light": ALL_RULES, "dark": {"runOnly": ["color-contrast", "link-in-text-block"], **ALL_RULES}}
"""In the dark only the colours are others."""


def barriers(page: Page, scheme: Literal["light", "dark"]) -> dict[str, str]:
    """The serious ones in these colours, each with a piece of the page that has it."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    found = Axe().run(page, options=RULES[scheme]).response["violations"]
    return {one["id"]: one["nodes"][0]["html"] for one in found if one["impact"] in ("serious", "critical")}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_fits_a_telephone_and_has_no_serious_barrier(page: Page, site: str, name: str) -> None:
    page.goto(site + name, wait_until="networkidle")
    assert page.locator("h1").first.inner_text()
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.set_viewport_size({"width": 1280, "height": 720})
    page.add_style_tag(content="* { transition: none !important }")  # of colours, which would be judged half-way
    page.evaluate(THIN_OUT)
    assert barriers(page, "light") == {}
    assert barriers(page, "dark") == {}


def test_a_barrier_would_be_seen(page: Page, site: str) -> None:
    page.goto(site + PAGES[0], wait_until="networkidle")
    page.add_style_tag(content="* { transition: none !important }")
    pale = "<p style='color: #888; background: #999'>pale</p><img src='data:,'>"
    page.evaluate("html => document.querySelector('article').insertAdjacentHTML('afterbegin', html)", pale)
    assert barriers(page, "light").keys() >= {"color-contrast", "image-alt"}
    assert "color-contrast" in barriers(page, "dark")


def test_search_finds_what_is_there(page: Page, site: str) -> None:
    page.goto(site + "search.html?q=whitening", wait_until="networkidle")
    page.locator("#search-results li").first.wait_for(timeout=10_000)
    assert page.locator("#search-results li").count() >= 1


def test_the_dark_switch_works_and_figures_stay_on_a_light_ground(page: Page, site: str) -> None:
    page.goto(site + next(name for name in PAGES if name.startswith("notebooks/")), wait_until="networkidle")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(3):  # auto, light, dark
        page.locator(".theme-switch-button:visible").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    images = page.locator(".cell_output img").all()
    assert images
    for image in images:
        colour = image.evaluate("image => getComputedStyle(image).backgroundColor")
        assert all(int(part) > 180 for part in re.findall(r"\d+", colour)[:3]), colour


def test_mathematics_is_set_without_a_network(page: Page, site: str) -> None:
    page.goto(site + next(name for name in PAGES if name.startswith("notebooks/")), wait_until="networkidle")
    page.locator("mjx-container").first.wait_for(timeout=10_000)


def test_every_notebook_opens_in_colab(folder: Path) -> None:
    for name in PAGES:
        if name.startswith("notebooks/"):
            there = f"https://colab.research.google.com/github/{address.slug()}/blob/main/{name[:-5]}.ipynb"
            links = re.findall(r'<a\b[^>]*\bhref="([^"]*colab[^"]*)"', (folder / name).read_text("utf-8"))
            assert len(links) >= 2
            assert set(links) == {there}


def test_no_markdown_shows_raw(folder: Path) -> None:
    for page in folder.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text("utf-8"), flags=re.DOTALL)
        assert "<p>| " not in text, page.name
        assert "{cite" not in text, page.name


def test_links_to_the_glossary_stay_within_the_site(folder: Path) -> None:
    for name in PAGES:
        if name.startswith("notebooks/"):
            text = (folder / name).read_text("utf-8")
            assert "../book/glossary.html#" in text
            assert "blob/main/book/" not in text


def test_every_link_within_the_site_leads_somewhere(folder: Path) -> None:
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text("utf-8"))) for page in folder.rglob("*.html")}
    for page in anchors:
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', page.read_text("utf-8")):
            if not re.match(r"[a-z]+:", link):
                where, anchor = urldefrag(urljoin(page.as_uri(), link.replace("&amp;", "&")))
                there = Path(unquote(where.removeprefix("file://")))
                assert there.exists(), f"{page.name}: {link}"
                assert not anchor or there.suffix != ".html" or unquote(anchor) in anchors[there], (
                    f"{page.name}: {link}"
                )
