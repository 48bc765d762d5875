"""Take the screenshots of docs/mlflow.md: `make screenshots`, after the runs that they are to show.

Needs Selenium (`pip install selenium`) and Chromium with its driver (Debian: `apt-get install chromium
chromium-driver`), which nothing else in this project uses. It starts the UI on a free port of this machine and ends it.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from motorec import paths, tracking

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 180  # seconds until something must have appeared


def main() -> None:
    """Take every screenshot, or stop with an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="garments")
    parser.add_argument("--models", nargs=2, default=["motorec", "lightgcn"], help="the two to compare")
    parser.add_argument("--out", type=Path, default=paths.root() / "docs" / "img")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tracking.store() as client:
        experiment = client.get_experiment_by_name(chosen.dataset)
    if experiment is None:
        sys.exit(f"MLflow has no runs of {chosen.dataset!r}: run the pipeline, then `make mlflow`.")
    with server() as address, browser() as chrome:
        page = address + tracking.page(experiment.experiment_id, "models")
        models(chrome, page, chosen.out / "mlflow-models.png")
        compare(chrome, page, chosen.models, chosen.out / "mlflow-compare.png")
        charts(chrome, page, chosen.models, chosen.out / "mlflow-charts.png")
        run(chrome, page, chosen.models[0], chosen.out / "mlflow-run.png")


def models(chrome: Chrome, page: str, out: Path) -> None:
    """The table of all models."""
    visit(chrome, page)
    wait(chrome, "//div[@role='row']//a")
    shoot(chrome, out)


def compare(chrome: Chrome, page: str, names: list[str], out: Path) -> None:
    """Two models picked in the table, then Compare: what differs in parameters and metrics."""
    chrome.set_window_size(1440, 1500)
    visit(chrome, page)
    for name in names:
        box = f"//div[@row-id='{row(chrome, name)}']//input[@type='checkbox' and not(contains(@class, 'visibility'))]"
        wait(chrome, box).click()
    wait(chrome, "//button[normalize-space()='Compare']").click()
    wait(chrome, "//button[@role='switch']")
    for switch in chrome.find_elements("xpath", "//button[@role='switch']"):
        chrome.execute_script("arguments[0].click()", switch)  # show only what differs
    fold = wait(chrome, "//*[normalize-space(text())='Visualizations']")
    chrome.execute_script("arguments[0].click()", fold)
    shoot(chrome, out)
    chrome.set_window_size(1440, 1050)


def charts(chrome: Chrome, page: str, names: list[str], out: Path) -> None:
    """The charts of two models, all others hidden."""
    visit(chrome, page + "&compareRunsMode=CHART")
    rows = [row(chrome, name) for name in names]
    # In one go: the table is drawn anew now and then, and an element that was found before is then gone.
    chrome.execute_script(
        """for (const box of document.querySelectorAll("input[class*='is-visibility-toggle-checkbox']"))
             if (!arguments[0].includes(box.closest("[row-id]").getAttribute("row-id"))) box.click();""",
        rows,
    )
    shoot(chrome, out)


def run(chrome: Chrome, page: str, name: str, out: Path) -> None:
    """The page of one model."""
    visit(chrome, page)
    wait(chrome, f"//div[@role='row']//a[normalize-space()='{name}']").click()
    more = wait(chrome, "//button[normalize-space()='Show more']")
    chrome.execute_script("arguments[0].click()", more)
    shoot(chrome, out)


def visit(chrome: Chrome, page: str) -> None:
    """Open a page of the UI afresh; a change behind the # alone would keep what was chosen before."""
    chrome.get("about:blank")
    chrome.get(page)


def row(chrome: Chrome, name: str) -> str:
    """The id of a model's row in the table: its parts lie in several places that share it."""
    found = wait(chrome, f"//a[normalize-space()='{name}']/ancestor::div[@role='row']").get_attribute("row-id")
    assert found is not None
    return found


def wait(chrome: Chrome, xpath: str) -> WebElement:
    """The first element that matches, once it is there."""
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(chrome, PATIENCE).until(expected_conditions.presence_of_element_located(("xpath", xpath)))


def shoot(chrome: Chrome, out: Path) -> None:
    """Save what is on the screen once it has come to rest."""
    before, now = b"", b" "
    for _ in range(PATIENCE):
        if before == now:
            break
        time.sleep(3)
        before, now = now, chrome.get_screenshot_as_png()
    out.write_bytes(now)
    print(paths.shown(out))


@contextmanager
def server() -> Iterator[str]:
    """Serve the UI as `make ui` does; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "motorec.tracking", "ui", "--port", str(port)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(PATIENCE):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                time.sleep(1)
        else:
            sys.exit("MLflow's UI did not start; try `make ui`.")
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@contextmanager
def browser() -> Iterator[Chrome]:
    """A headless Chromium in which MLflow's assistant is folded away and model training is chosen."""
    os.environ.setdefault("SE_OFFLINE", "true")  # Selenium would look for a driver on the network
    try:
        from selenium import webdriver
    except ImportError:
        sys.exit("Selenium is missing: pip install selenium")
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,1050"):
        options.add_argument(word)
    chrome = webdriver.Chrome(options=options)
    try:
        choices = {
            "mlflow.assistant.panelOpen_v1": "false",
            "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
            "mlflow.workflowType_v1": '"machine_learning"',
        }
        fold = "".join(f"localStorage.setItem({key!r}, {value!r});" for key, value in choices.items())
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": f"try {{ {fold} }} catch {{}}"})
        yield chrome
    finally:
        chrome.quit()


if __name__ == "__main__":
    main()
