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
from urllib.parse import quote

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


def wait_for_pictures(browser, wanted: set[str], seconds: float = 40) -> dict[str, tuple[int, int]]:
    """The pictures on the page, once all of these are drawn: the page writes its words first."""
    deadline = time.monotonic() + seconds
    while not wanted <= set(found := pictures(browser)) or not all(found[name][0] > 0 for name in wanted):
        assert time.monotonic() < deadline, f"{wanted - set(found)} did not appear; there are: {found}"
        time.sleep(0.3)
    return found


def pictures(browser) -> dict[str, tuple[int, int]]:
    """Titles of the plots that the browser has drawn, with their sizes in pixels."""
    script = """return [...document.querySelectorAll("img[src^='data:image/svg+xml']")]
        .map(image => [image.alt, image.naturalWidth, image.naturalHeight, image.getBoundingClientRect().width])"""
    return {alt: (wide, high) for alt, wide, high, shown in browser.execute_script(script) if shown > 100}


def said_of(browser, name: str) -> str:
    """The text of an entry of the metadata, which stands on the page if it is short, or behind a click."""
    from selenium.webdriver.common.by import By

    row = browser.find_element(By.XPATH, f"//tr[td[normalize-space(.)='{name}']]")
    if "Show Markdown" not in row.text:
        return row.text
    browser.execute_script(
        "arguments[0].click()", row.find_element(By.XPATH, ".//*[contains(text(), 'Show Markdown')]")
    )
    deadline = time.monotonic() + 20
    # the dialog comes first, its words later
    while not (
        said := "".join(e.text for e in browser.find_elements(By.CSS_SELECTOR, "[role=dialog] .dagster-markdown"))
    ):
        assert time.monotonic() < deadline, text_of(browser)[:2000]
        time.sleep(0.3)
    return said


def dropped_most(workplace) -> str:
    """The source of which most documents were dropped."""
    cleaned = [workplace.store.open(*key) for key in workplace.store.keys() if key.asset == "clean_documents"]
    return max(cleaned, key=lambda artifact: artifact.counts["dropped"]).key.partition


def test_the_page_of_clean_documents_shows_plots_and_examples_of_what_was_dropped(served, browser):
    workplace, base = served
    source = dropped_most(workplace)
    browser.get(f"{base}/assets/clean_documents?view=partitions&partition={quote(source, safe='')}")
    wait_for_text(browser, "plot_drop_reasons")
    shot(browser, "plots_of_documents")
    found = wait_for_pictures(browser, {"Funnel", "Words a document, before and after", "Why documents went"})
    assert all(wide > 100 and high > 20 for wide, high in found.values()), found
    said = said_of(browser, "examples")
    shot(browser, "examples")
    (reason, *_) = workplace.store.open("clean_documents", source).facts["reasons"]
    assert reason.removeprefix("dropped: ") in said
    assert "documents" in said
    assert "measured" in said


def test_the_page_of_a_profile_shows_its_plots_and_the_signals_with_their_bounds(served, browser):
    workplace, base = served
    source = dropped_most(workplace)
    browser.get(f"{base}/assets/source_profile?view=partitions&partition={quote(source, safe='')}")
    wait_for_text(browser, "plot_licences")
    shot(browser, "profile")
    wait_for_pictures(browser, {"Funnel", "Licences, by byte of text", "Languages, by document"})
    said = said_of(browser, "plot_signals")
    shot(browser, "signals")
    assert "num_words" in said
    wait_for_pictures(browser, {"num_words"})
    assert "profile.html" in text_of(browser)


def test_the_page_of_a_profile_as_a_file_asks_for_nothing(served, browser, tmp_path):
    workplace, base = served
    page = tmp_path / "profile.html"
    workplace.stemma("show", "source_profile", dropped_most(workplace), "--out", str(page))
    browser.get(page.as_uri())
    shot(browser, "profile_page")
    assert browser.execute_script("return document.querySelectorAll('svg').length") > 10
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not [entry for entry in browser.get_log("browser") if str(page) in entry["message"]]
    browser.get(f"{base}/asset-groups")


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


def test_the_page_of_a_model_shows_its_curve_and_its_sources(served, browser):
    """And its events are those of the training while it went on."""
    _, base = served
    browser.get(f"{base}/assets/pretrained_model?view=partitions&partition=demo")
    text = wait_for_text(browser, "heldout_by_source")
    wait_for_pictures(browser, {"loss by step, smoothed"})
    shot(browser, "model")
    assert "plot_loss" in text
    assert "notes/1" in said_of(browser, "heldout_by_source")
    browser.get(f"{base}/assets/pretrained_model?view=events")
    wait_for_text(browser, r"Partition demo observed|demo")
    found = browser.execute_script(
        "return fetch('/graphql', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({"
        'query: \'{assetOrError(assetKey: {path: ["pretrained_model"]}) {... on Asset {assetObservations(limit: 1)'
        " {partition metadataEntries {label}}}}}'})}).then(response => response.json())"
    )
    (observed,) = found["data"]["assetOrError"]["assetObservations"]
    assert observed["partition"] == "demo"
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second", "curve"} <= {
        entry["label"] for entry in observed["metadataEntries"]
    }
