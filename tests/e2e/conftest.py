"""One folder for all tests here, and for each file a studio and a browser on it.

Without a browser they are skipped, with the reason.

With STUDIO_SHOTS=folder, pictures of every screen are written there: wide and narrow, light and dark.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from sync_r1.apps import jobs

if TYPE_CHECKING:
    from sync_r1.apps.studio import StudioFolder

ROOT = Path(__file__).parents[2]
TIMEOUT_MS = int(os.environ.get("STUDIO_TIMEOUT_MS", "60000"))  # for a machine that does much else
RESTS = """() => !document.querySelector(".pending, .generating")
    && !document.getAnimations().some((one) => one instanceof CSSTransition && one.playState === "running")"""
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, closed after each file: while Playwright is open, `asyncio.run` fails in tests of this process."""
    pytest.importorskip("gradio", reason='the studio is not installed: pip install "sync-r1[studio]"')
    reason = 'Playwright is not installed: pip install "sync-r1[e2e]"'
    pytest.importorskip("axe_playwright_python", reason=reason)
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium here; install it, for example with apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the studio and its runs lie."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def studio(place: Path) -> StudioFolder:
    """With a thing of the embedded world, whose private words the model can rewrite."""
    from sync_r1.apps.studio import StudioFolder, things

    folder = StudioFolder(place / "studio", place / "runs")
    things.add_example(folder)
    return folder


@pytest.fixture(scope="module")
def address(place: Path, browser: Any) -> Iterator[str]:
    """A studio with the shipped model."""
    from sync_r1.app.server import create_studio, options_of
    from sync_r1.apps.studio import StudioFolder
    from tests.serve.serving import running

    os.environ["PYTHONPATH"], os.environ["OMP_NUM_THREADS"] = str(ROOT), "1"
    folder = StudioFolder(place / "studio", place / "runs")
    options = options_of("127.0.0.1", 0, [], None, 300.0, folder.feedback)
    with running(create_studio(folder, options), options) as started:
        yield started.url


@dataclass
class Screen:
    """A page in the browser, and what went wrong in it."""

    page: Any
    address: str
    outside: list[str] = field(default_factory=list)  # requests to other hosts
    errors: list[str] = field(default_factory=list)  # of scripts, and answers of 500 and above

    def open(self, path: str = "/") -> Any:
        self.page.goto(f"{self.address}{path}")
        return self.arrived()

    def reload(self) -> Any:
        self.page.reload()
        return self.arrived()

    def arrived(self) -> Any:
        """Wait until the server has told the page what to show."""
        self.page.wait_for_selector("[data-address], .empty > p", state="attached")
        return self.page

    def see(self, text: str) -> Any:
        """Wait until a text is to be seen."""
        found = self.page.get_by_text(text).locator("visible=true").first
        try:
            found.wait_for()
        except Exception as error:
            self.shoot("failed")
            told = self.page.locator(".problem, .note").all_inner_texts()
            raise AssertionError(f"{text!r} is not to be seen; the page says {told}") from error
        return found

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()

    def download(self, name: str) -> Path:
        """The file that a button hands over."""
        with self.page.expect_download() as started:
            self.press(name)
        return Path(started.value.path())

    def check(self, name: str) -> None:
        """Accessible in light and dark, within the width of a phone, nothing from elsewhere, no error."""
        from axe_playwright_python.sync_playwright import Axe

        bad = []
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.page.wait_for_timeout(300)
            self.page.wait_for_function(RESTS)
            self.shoot(f"{name}_{scheme}")
            for one in Axe().run(self.page).response["violations"]:
                if one["impact"] in ("critical", "serious"):
                    first = one["nodes"][0]
                    bad.append(f"{scheme}: {one['id']}: {first['html'][:160]}: {first.get('failureSummary', '')[:300]}")
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size(SIZES["narrow"])
        self.page.wait_for_timeout(100)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self.shoot(f"{name}_narrow")
        self.page.set_viewport_size(SIZES["wide"])
        assert bad == [], name
        assert self.page.locator("h1").count() == 1
        assert width <= SIZES["narrow"]["width"], f"{name} is {width} px wide on a phone of 390"
        assert self.outside == [] and self.errors == []

    def shoot(self, name: str) -> None:
        folder = os.environ.get("STUDIO_SHOTS", "")
        if folder:
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def step_of_run(run: Path) -> int:
    """The last step that was told in its files."""
    return jobs.state(run).step if (run / jobs.JOB).is_file() else 0


def wait_until(happened: Callable[[], object], seconds: float = 5 * TIMEOUT_MS / 1000) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.2)


@contextmanager
def opened(browser: Any, address: str) -> Iterator[Screen]:
    """A page of a studio, in a browser that remembers nothing."""
    context = browser.new_context(viewport=SIZES["wide"], color_scheme="light")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    shown = Screen(page, address)
    own = urlsplit(address).netloc

    def watch(route: Any) -> None:
        if urlsplit(route.request.url).netloc in (own, ""):
            route.continue_()
        else:
            shown.outside.append(route.request.url)
            route.abort()

    context.route("**/*", watch)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("response", lambda answer: shown.errors.append(answer.url) if answer.status >= 500 else None)
    try:
        yield shown
    finally:
        context.close()


@pytest.fixture()
def screen(browser: Any, address: str) -> Iterator[Screen]:
    with opened(browser, address) as shown:
        yield shown
