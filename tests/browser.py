"""A real Chromium for tests of pages; skipped where there is none, but not in CI.

def test_a_page(chromium: Page) -> None: chromium.goto(url)
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
SERIOUS = ("serious", "critical")


@pytest.fixture
def chromium() -> Iterator[Page]:
    """Give an empty page; what its scripts throw, or its policy forbids, fails the test."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium is installed: `make test` installs it")
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        page = browser.new_page()
        page.set_default_timeout(120_000)  # milliseconds, on machines under load
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        yield page
        browser.close()
    assert not errors, errors


def serious_faults(page: Page) -> list[tuple[str, Any]]:
    """Give what axe finds wrong for keyboards and screen readers."""
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], [node["html"] for node in each["nodes"]]) for each in found if each["impact"] in SERIOUS
    ]


def picture(page: Page, path: Path) -> None:
    """Keep a picture of a page, to look at."""
    page.screenshot(path=path, full_page=True)
