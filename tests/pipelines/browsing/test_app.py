"""The command in a process of its own, its App in headless Chromium: what a user sees, tags, and leaves behind."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.browsing import server
from layerkit.toolkit.shards import read_samples

pytestmark = pytest.mark.slow

PATIENCE = 120  # seconds; for what usually takes some
DATABASE = ("FIFTYONE_PRIVATE_DATABASE_PORT", "FIFTYONE_DATABASE_URI")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def environment(home: dict[str, str], **others: str) -> dict[str, str]:
    """Without the database of this process."""
    own = {name: value for name, value in os.environ.items() if name not in DATABASE}
    return {**own, **home, **others}


@contextmanager
def command(*arguments: object, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", "layerkit", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            stream.close()


def opened(process: subprocess.Popen) -> dict:
    """What the command prints with ``--json`` once the App can be opened."""
    text = ""
    while line := process.stdout.readline():
        text += line
        if line == "}\n":
            break
    assert text, process.stderr.read()
    return json.loads(text)


def related(words: str) -> list[str]:
    """Command lines of the processes that name something."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        found += [line] if words in line and "pytest" not in line else []
    return found


def gone(words: str) -> bool:
    """Whether no process names it any more, soon."""
    end = time.monotonic() + 30
    while related(words) and time.monotonic() < end:
        time.sleep(0.2)
    return not related(words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Folders of its own for FiftyOne: a database that nobody knows of."""
    names = ("DATABASE_DIR", "DEFAULT_DATASET_DIR", "DATASET_ZOO_DIR", "MODEL_ZOO_DIR", "PLUGINS_DIR")
    return {f"FIFTYONE_{name}": str(tmp_path / f"fo-{name.lower()}") for name in names}


@pytest.fixture
def copied(tiny_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_build, tmp_path / "build"))


@pytest.fixture(scope="module")
def page():
    """A page of headless Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium: apt install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


def visit(page, url: str) -> None:
    page.goto(url)
    page.locator("[data-cy=looker] canvas").first.wait_for()
    page.wait_for_timeout(1500)
    if (advertisement := page.get_by_text("Dismiss")).count():
        advertisement.click()


def count_of(page) -> int:
    return int(re.match(r"\d+", page.locator("[data-cy=entry-counts]").first.inner_text().replace(",", ""))[0])


def wait_for_count(page, expected: int) -> None:
    end = time.monotonic() + PATIENCE
    while count_of(page) != expected and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert count_of(page) == expected


def pixels_of(locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


@pytest.mark.browser
def test_a_user_looks_filters_tags_and_ends(page, copied: Path, home: dict[str, str]):
    port = free_port()
    with command("browse", copied, "--port", port, "--json", env=environment(home)) as process:
        told = opened(process)
        assert (told["kind"], told["samples"]) == ("build", 12)
        assert told["url"].startswith(f"http://127.0.0.1:{port}/datasets/build-")
        assert listeners(port) == {"127.0.0.1"}
        visit(page, told["url"])
        assert count_of(page) == 4 * 12
        assert page.locator("[data-cy=looker]").count() == 12

        records = [json.loads(s["json"]) for tar in (copied / "data").iterdir() for _, s in read_samples(tar)]
        scores = sorted(record["scores"]["saliency_contrast"] for record in records)
        page.locator("[data-cy=saliency_contrast-field]").scroll_into_view_if_needed()
        page.locator("[data-cy=sidebar-field-arrow-enabled-saliency_contrast]").click()
        least = page.get_by_placeholder("min").first
        least.fill(f"{(scores[6] + scores[7]) / 2:.6f}")
        least.press("Enter")
        wait_for_count(page, 5)

        page.goto(f"{told['url']}?slice=foreground")
        page.locator("[data-cy=looker] canvas").first.wait_for()
        page.wait_for_timeout(3000)
        corner = pixels_of(page.locator("[data-cy=fo-grid]").first)
        squares = [np.abs(corner - grey).max(axis=2) <= 6 for grey in (168, 208)]
        assert min(float(one.mean()) for one in squares) > 0.1, "transparent parts lie on a checkerboard"

        tile = page.locator("[data-cy=looker]").first
        tile.hover()
        tile.locator("[data-cy=looker-checkbox-input-]").evaluate("one => one.click()")
        page.locator("[data-cy=action-tag-sample-labels]").first.click()
        page.locator("[data-cy=sample-tag-input]").fill("exclude")
        page.locator("[data-cy=sample-tag-input]").press("Enter")
        page.get_by_text("Apply", exact=True).click()
        page.wait_for_timeout(2000)

        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in a terminal, the page still open
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert f"of 1 samples are not in files yet: layerkit browse --export-tags {copied}" in printed
    assert gone(f"--port {port}")
    assert gone(home["FIFTYONE_DATABASE_DIR"])

    with command("browse", "--export-tags", copied, env=environment(home)) as process:
        printed, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    (excluded,) = (copied / "manifests/exclude.txt").read_text().split()
    assert excluded in {record["key"] for record in records}
    assert "excluded  1 samples" in printed


def listeners(port: int) -> set[str]:
    found = set()
    for process in psutil.process_iter():
        try:
            found |= {
                connection.laddr.ip
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            }
        except psutil.Error:
            continue
    return found


@pytest.mark.browser
def test_a_report_opens_the_same_way(page, tiny_report: Path, home: dict[str, str]):
    with command("browse", tiny_report, "--port", free_port(), "--json", env=environment(home)) as process:
        told = opened(process)
        assert {"worst telea psnr_mask", "best closed_form_matting iou_soft"} <= set(told["views"])
        visit(page, f"{told['url']}?slice=side_by_side")
        assert page.locator("[data-cy=looker]").count() == 4
        assert page.locator("[data-cy='sidebar-group-TELEA']").count() == 1
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, "SIGTERM ends it as Ctrl-C does"
    assert gone(home["FIFTYONE_DATABASE_DIR"])


@pytest.mark.browser
def test_the_page_without_fiftyone_searches_and_sorts(page, tiny_build: Path, tmp_path: Path):
    with command("browse", tiny_build, "--html", tmp_path / "page.html", env=dict(os.environ)) as process:
        assert process.wait(PATIENCE) == 0
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    values = page.evaluate("[...document.querySelectorAll('article')].map(one => JSON.parse(one.dataset.values))")
    assert page.locator("#count").inner_text() == "12 of 12"
    page.locator("#order").select_option("-saliency_contrast")
    sorted_ = page.evaluate("[...document.querySelectorAll('article')].map(one => JSON.parse(one.dataset.values))")
    scores = [one["saliency_contrast"] for one in values]
    assert [one["saliency_contrast"] for one in sorted_] == sorted(scores, reverse=True)
    page.locator("#find").fill("CUT rocket")
    shown = page.locator("article:visible")
    texts = [shown.nth(k).text_content().lower() for k in range(shown.count())]
    assert 0 < len(texts) < 12
    assert all("cut" in text and "rocket" in text for text in texts)
    assert page.locator("img").first.evaluate("one => one.naturalWidth") > 0, "its own policy lets its pictures in"
    assert errors == []


def test_without_an_app_the_data_set_is_there_for_notebooks(copied: Path, home: dict[str, str]):
    with command("browse", copied, "--no-app", "--limit", 5, env=environment(home)) as process:
        printed, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    name = re.search(r'fiftyone\.load_dataset\("(build-\w+)"\)', printed)[1]
    assert gone(home["FIFTYONE_DATABASE_DIR"]), "the database that it started"
    script = f"import fiftyone; print(len(fiftyone.load_dataset({name!r})))"
    done = subprocess.run([sys.executable, "-c", script], env=environment(home), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["5"], done.stderr


def test_a_database_elsewhere_is_used(copied: Path, fiftyone, home: dict[str, str]):
    port = fiftyone.core.odm.get_db_conn().client.address[1]
    address = environment(home, FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{port}", FIFTYONE_DATABASE_NAME="elsewhere")
    with command("browse", copied, "--no-app", "--json", env=address) as process:
        printed, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    client = fiftyone.core.odm.get_db_conn().client
    names = [one["name"] for one in client["elsewhere"]["datasets"].find()]
    assert json.loads(printed)["dataset"] in names
    assert not Path(home["FIFTYONE_DATABASE_DIR"]).exists(), "none was started"
    client.drop_database("elsewhere")


def test_whoever_is_killed_leaves_no_process_either(copied: Path, home: dict[str, str]):
    port = free_port()
    with command("browse", copied, "--port", port, "--json", env=environment(home)) as process:
        opened(process)
        assert related(f"--port {port}")
        process.kill()
        process.wait(PATIENCE)
    assert gone(f"--port {port}")
    assert gone(home["FIFTYONE_DATABASE_DIR"])


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port: expected a free port of 127.0.0.1, got {port}, which is taken"):
            server.free_port(port)
    assert server.free_port(port) == port
    assert server.free_port() >= server.PORT
    with pytest.raises(UsageError, match="1 to 65535"):
        server.free_port(70_000)
