"""A browser for tests of the page: Chromium as the system has it, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SUSPECTS = 220  # of the fixture `page`
NAMES = ("chromium", "chromium-browser", "google-chrome")
OBSERVE = """
window.pwned = 0; window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


def executable() -> str | None:
    """CLIPSCAN_CHROMIUM, or what is installed."""
    return os.environ.get("CLIPSCAN_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, for all tests of a file; skips where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'clipscan[dev]'"
    )
    path = executable()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium, or CLIPSCAN_CHROMIUM=/path/to/it")
    with sync_api.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield one
        one.close()


class Opened:
    """A page in a browser, what it said and complained of."""

    def __init__(self, browser: Any, url: str, context: Any = None, **options: Any) -> None:
        self.errors: list[str] = []
        self.context = context or browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.add_init_script(OBSERVE)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.goto(url)
        self.page.wait_for_selector("#review .tools")

    def press(self, keys: str) -> None:
        """One key a letter."""
        for key in keys:
            self.page.keyboard.press(key)

    def script(self, code: str, *given: Any) -> Any:
        return self.page.evaluate(code, *given)

    def until(self, code: str) -> None:
        """Wait for an expression to be true; the policy forbids that Playwright's own way runs."""
        for _ in range(200):
            if self.script(code):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never true: {code}")

    def words(self) -> dict[str, str]:
        """key -> decision of everything decided."""
        pairs = self.script("[...clipscan.decisions.words]")
        return {name.split("\0")[1]: word for name, word in pairs}

    def saved(self, folder: Path, answer: str = "json") -> Path:
        """The file that Save offers."""
        self.page.get_by_role("button", name="Save", exact=True).click()
        with self.page.expect_download() as download:
            self.page.locator(f"dialog button[value={answer}]").click()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def check(self) -> None:
        """Nothing of a stranger's ran, and the policy had nothing to stop."""
        assert self.script("[window.pwned, window.violations]") == [0, []]
        assert self.errors == []
