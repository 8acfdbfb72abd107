"""The UI as a person sees it: Debian's Chromium, driven through the graph, an asset page and a materialization."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on this machine (Debian: apt-get install chromium chromium-driver)",
)
SHOTS = os.environ.get("STEMMA_SCREENSHOTS", "")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def served(finished, tmp_path_factory):
    """`stemma ui` on a copy of the finished run; yields (workplace, base URL)."""
    workplace = finished.copy(tmp_path_factory.mktemp("ui") / "copy")
    port = free_port()
    environment = {**os.environ, "STEMMA_STORE": str(workplace.url), "STEMMA_SPEC": str(workplace.spec_path)}
    log = workplace.folder / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "assets", "ui", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not answers(f"{base}/server_info"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.3)
        yield workplace, base
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1600,1100",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def text_of(browser) -> str:
    return browser.execute_script("return document.body.innerText")


def wait_for_text(browser, pattern: str, seconds: float = 40) -> str:
    deadline = time.monotonic() + seconds
    while True:
        text = text_of(browser)
        if re.search(pattern, text):
            return text
        assert time.monotonic() < deadline, f"{pattern!r} did not appear on {browser.current_url}:\n{text[:3000]}"
        time.sleep(0.3)


def shot(browser, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(f"{SHOTS}/{name}.png")


def click(browser, words: str, seconds: float = 20) -> None:
    """Click what carries exactly these words, as soon as it can be clicked."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By

    deadline = time.monotonic() + seconds
    while True:
        found = browser.find_elements(By.XPATH, f"//button[contains(normalize-space(.), '{words}')]")
        for element in found:
            try:
                if element.is_displayed() and element.is_enabled():
                    element.click()
                    return
            except WebDriverException:
                continue
        assert time.monotonic() < deadline, f"no button {words!r} on {browser.current_url}:\n{text_of(browser)[:2000]}"
        time.sleep(0.3)


def test_the_graph_shows_its_groups(served, browser):
    _, base = served
    browser.get(f"{base}/asset-groups")
    text = wait_for_text(browser, "release")
    shot(browser, "graph")
    for group in ("corpus", "tokens", "pretraining", "finetuning", "benchmarks", "release"):
        assert group in text


def test_an_asset_page_shows_funnel_checks_and_provenance(served, browser):
    _, base = served
    browser.get(f"{base}/assets/clean_documents?view=partitions&partition=notes%2F1")
    text = wait_for_text(browser, "funnel")
    shot(browser, "partition")
    assert "quarantined" in text or "dropped" in text
    browser.get(f"{base}/assets/clean_documents?view=checks")
    wait_for_text(browser, "conserved")
    shot(browser, "checks")


def test_the_overview_speaks_of_the_data(served, browser):
    _, base = served
    browser.get(f"{base}/assets/clean_documents?view=overview")
    wait_for_text(browser, "Row count")
    wait_for_text(browser, "pass the quality rules")
    wait_for_text(browser, "sha256_out")
    shot(browser, "overview")


def test_the_overview_plots_the_funnel_by_partition(served, browser):
    _, base = served
    browser.get(f"{base}/assets/clean_documents?view=overview")
    wait_for_text(browser, "Row count")
    click(browser, "Plots")
    text = wait_for_text(browser, r"kept_ratio\s[\s\S]*masked_email")
    shot(browser, "plots")
    assert "Asset plots are automatically generated" not in text
    assert len(browser.find_elements("css selector", "canvas")) >= 5


def test_a_materialization_launched_from_the_browser_succeeds(served, browser):
    _, base = served
    browser.get(f"{base}/assets/signatures?view=partitions&partition=notes%2F1")
    wait_for_text(browser, "notes/1")
    click(browser, "Materialize")
    wait_for_text(browser, "Launch")
    shot(browser, "launch")
    click(browser, "Launch")
    deadline = time.monotonic() + 120
    while True:
        status = launched_runs(base)
        if status and all(s in ("SUCCESS", "FAILURE", "CANCELED") for s in status):
            break
        assert time.monotonic() < deadline, f"runs: {status}"
        time.sleep(0.5)
    browser.get(f"{base}/runs")
    wait_for_text(browser, "signatures")
    shot(browser, "runs")
    assert set(status) == {"SUCCESS"}


def launched_runs(base: str) -> list[str]:
    """Status of the runs that were launched from this browser (those before were made by `stemma run`)."""
    import json

    query = '{ runsOrError(filter: {tags: [{key: "dagster/from_ui", value: "true"}]}) { ... on Runs { results { status } } } }'
    request = urllib.request.Request(
        f"{base}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return [r["status"] for r in json.load(response)["data"]["runsOrError"]["results"]]


def test_the_pages_ask_nobody_but_this_machine(served, browser):
    _, base = served
    browser.get(f"{base}/asset-groups")
    wait_for_text(browser, "release")
    urls = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [u for u in urls if not u.startswith((base, "data:", "blob:"))] == []
