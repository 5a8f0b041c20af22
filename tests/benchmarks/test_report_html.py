import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from layerkit.benchmarks.options import BenchOptions
from layerkit.benchmarks.reports.html import render_html
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.page import SCRIPT, text_table
from layerkit.toolkit.suites.cases import Dropped

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text of each table cell, and what is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def options(tmp_path: Path) -> BenchOptions:
    return BenchOptions(out=tmp_path, cache=tmp_path, limit=1)


@pytest.fixture
def demo_page(demo_run, table) -> str:
    outcomes, options = demo_run
    return render_html(table(*outcomes, references=[{}, {"same_protocol": False}]), outcomes, options)


def test_the_page_is_whole_and_needs_nothing_else(demo_page):
    page = Page(demo_page)
    assert (page.faults, page.open) == ([], [])
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert {"script", "style"} <= {tag for tag, _ in page.tags}
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]
    assert all("src" not in script for script in page.named("script"))
    assert all(link["href"].startswith("#") for link in page.named("a"))
    assert "@import" not in demo_page
    assert "url(" not in demo_page


def test_the_policy_of_the_page_allows_its_own_script_alone(demo_page):
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in Page(demo_page).named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert f"<script>{SCRIPT}</script>" in demo_page


def test_pictures_of_every_model_and_the_size_of_the_page(demo_page, demo_run):
    outcomes, _ = demo_run
    captions = [image["alt"] for image in Page(demo_page).named("img")]
    for one in outcomes:
        assert sum(f"worst of {one.model}" in caption for caption in captions) >= 3 * 6
    per_picture = len(demo_page) / len(captions)
    assert per_picture * 3 * 6 * 7 < 3_000_000  # three models, six strips, seven pictures


def test_the_same_report_gives_the_same_bytes(demo_run, table):
    outcomes, options = demo_run
    made = table(*outcomes)
    assert render_html(made, outcomes, options) == render_html(made, outcomes, options)


def test_tables_show_values_intervals_and_what_is_best(outcome, table, options):
    made = [outcome("low", {"psnr": [20.0, 22.0]}), outcome("high", {"psnr": [30.0, 30.0]})]
    text = render_html(table(*made, references=[{}]), [], options)
    assert "<strong>30.00</strong><small>[30.00, 30.00]</small>" in text
    assert "<strong>21.00" not in text
    assert '<tbody class="published"><tr><th scope="row">Published<small>published: paper, n 100, evidence S, ' in text


def test_rows_of_other_protocols_are_folded_away(outcome, table, options):
    text = render_html(
        table(outcome("a", {"psnr": [1.0]}), references=[{"same_protocol": False, "method": "Other"}]), [], options
    )
    before, after = text.split("<details><summary>Published under other protocols: not comparable<")
    assert "Other<" in after
    assert "Other<" not in before


def test_a_model_that_did_not_run_is_told(outcome, table, options):
    made = outcome("a", {"psnr": [1.0]}), outcome("lama", {"psnr": [1.0]}, skipped={"*": "no weights: run this"})
    text = render_html(table(*made), [], options)
    assert "<strong>lama did not run:</strong> no weights: run this" in text


def test_hostile_names_stay_text(outcome, table, options):
    suite = replace(SUITES["demo"], name=HOSTILE, about=HOSTILE, split=HOSTILE)
    made = outcome(
        HOSTILE,
        {"psnr": [1.0]},
        suite,
        skipped={"ssim": HOSTILE},
        dropped=(Dropped(HOSTILE, "unreadable", HOSTILE),),
        licence=HOSTILE,
    )
    references = [
        {"suite": HOSTILE, "method": HOSTILE, "note": HOSTILE, "same_protocol": same} for same in (True, False)
    ]
    text = render_html(table(made, references=references), [], options)
    page = Page(text)
    assert (page.faults, page.open) == ([], [])
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert HOSTILE in page.cells


def test_a_report_without_any_score_is_still_a_page(outcome, table, options):
    made = replace(outcome("a", {"psnr": [1.0]}), measures=(), rows=(), skipped={"*": "no weights"})
    page = Page(render_html(table(made), [made], options))
    assert (page.faults, page.open) == ([], [])


def test_long_tables_are_cut_and_say_so():
    text = text_table("drops", [{"id": k} for k in range(250)], ["id"])
    assert text.count("<tr>") == 201
    assert "50 more are in report.json" in text


class Chromium:
    """A browser that is driven through a pipe."""

    def __init__(self, program: str, profile: Path) -> None:
        (theirs, self._to), (self._from, ours) = os.pipe(), os.pipe()
        flags = f"--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir='{profile}'"
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec '{program}' {flags} 3<&{theirs} 4>&{ours}"],
            pass_fds=(theirs, ours),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        self._buffer, self._number, self._session = b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._until(lambda told: told.get("id") == self._number)["result"]

    def open(self, path: Path, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=path.as_uri())
        self._until(lambda told: told.get("method") == "Page.loadEventFired")

    def value(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _until(self, is_it: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self._buffer:
                read = os.read(self._from, 1 << 16)
                assert read, "the browser ended"
                self._buffer += read
            told, _, self._buffer = self._buffer.partition(b"\0")
            if is_it(message := json.loads(told)):
                return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium")
    chromium = Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@contextmanager
def shown(browser: Chromium, text: str, folder: Path, width: int = 1400) -> Iterator[Chromium]:
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    browser.open(path, width)
    yield browser


FIRST = "document.querySelector('table')"
MODELS = f"[...{FIRST}.tBodies[0].rows].map(row => row.cells[0].textContent).join(' ')"


@pytest.mark.browser
def test_a_head_sorts_its_column_best_first_and_then_the_other_way(browser, outcome, table, options, tmp_path):
    values = {"b": [9.5, 9.5], "a": [30.0, 30.0], "c": [100.0, 100.0]}
    made = [outcome(name, {"psnr": of, "rmse": of}) for name, of in values.items()]
    made.append(outcome("d", {"ssim": [0.5, 0.5]}))  # without a PSNR: last whichever way
    with shown(browser, render_html(table(*made, references=[{}]), [], options), tmp_path) as page:
        assert page.value(MODELS) == "b a c d"
        orders = []
        for column in (1, 1, 2, 0):
            page.value(f"{FIRST}.tHead.rows[0].cells[{column}].querySelector('button').click()")
            orders.append(page.value(MODELS))
        assert orders == ["c a b d", "b a c d", "b a c d", "a b c d"]
        assert page.value(f"{FIRST}.querySelectorAll('[aria-sort]').length") == 1
        assert page.value(f"{FIRST}.tBodies[1].rows[0].cells[0].firstChild.textContent") == "Published"


@pytest.mark.browser
def test_heads_are_reached_and_pressed_by_the_keyboard(browser, outcome, table, options, tmp_path):
    made = [outcome("b", {"psnr": [1.0]}), outcome("a", {"psnr": [2.0]})]
    with shown(browser, render_html(table(*made), [], options), tmp_path) as page:
        page.value(f"{FIRST}.tHead.querySelector('button').focus()")
        for kind in ("rawKeyDown", "char", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        assert page.value(MODELS) == "a b"


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_does_not_scroll_sideways(browser, demo_page, tmp_path, width):
    with shown(browser, demo_page, tmp_path, width) as page:
        assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        narrow = "[...document.querySelectorAll('.box')].some(box => box.scrollWidth > box.clientWidth)"
        assert page.value(narrow) or width > 400
