"""The page, in headless Chromium driven over the WebDriver protocol (W3C)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from seqlib.serve.config import Limits, ServeConfig
from seqlib.serve.server import Server
from tests.serve.conftest import Vectors

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=900,900"
).split()
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in WebDriver's JSON


class Browser:
    """A session of the driver at `url`."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        asked = {"capabilities": {"alwaysMatch": {"browserName": "chrome", **options}}}
        self.url = f"{url}/session/{self('POST', '/session', asked)['sessionId']}"

    def __call__(self, method: str, path: str, value: Any = None) -> Any:
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def find(self, css: str) -> str:
        return self("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def type(self, css: str, text: str, clear: bool = True) -> None:
        element = self.find(css)
        if clear:
            self("POST", f"/element/{element}/clear", {})
        self("POST", f"/element/{element}/value", {"text": text})

    def click(self, css: str) -> None:
        self("POST", f"/element/{self.find(css)}/click", {})

    def js(self, script: str) -> Any:
        return self("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def until(self, script: str) -> None:
        for _ in range(400):
            if self.js(script):
                return
            time.sleep(0.025)
        raise AssertionError(f"not true in 10 s: {script}; the page shows {self.js('document.body.innerText')!r}")

    def open(self, url: str) -> None:
        self("POST", "/url", {"url": url + "/"})
        self.until("!document.getElementById('form').hidden")

    def run(self, text: str) -> str:
        """Type a text, press the button, and read what came."""
        self.type("#text", text)
        self.click("#go")
        self.until("document.getElementById('note').textContent.endsWith(' ms')")
        return self.js("document.getElementById('out').textContent")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or binary is None:
        pytest.skip("no Chromium with its driver on the PATH (Debian: chromium, chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("browser")
    environment = {**os.environ, "HOME": str(home)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen([driver, f"--port={port}"], **quiet)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={home}"]}
        made = Browser(
            f"http://127.0.0.1:{port}", {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        )
        yield made
        made("DELETE", "")
    finally:
        process.terminate()
        process.wait(10)


def test_translate(browser, clients, models) -> None:
    browser.open(clients["translate"].url)
    assert browser.js("document.title") == "translate: translate"
    assert browser.js("document.getElementById('about').textContent") == "en → de, a sentence a line"
    first, second = (models["translate"].translate([text])[0] for text in ("To be, or not", "a"))
    browser.run("To be, or not\na")
    shown = browser.js("[...document.querySelectorAll('#out div')].map(e => e.textContent)")
    assert shown == [f"{first.text}\n{second.text}"]
    browser.type("#alternatives", "1")
    browser.run("To be, or not")
    shown = browser.js("[...document.querySelectorAll('#out div')].map(e => e.textContent)")
    best = models["translate"].translate(["To be, or not"], n_best=2)[0]
    assert shown == [best.text, best.alternatives[0].text]
    assert browser("POST", "/se/log", {"type": "browser"}) == [], "no errors on the page"


def test_generate_streams_and_tells_what_is_wrong(browser, clients, models) -> None:
    browser.open(clients["generate"].url)
    for name, value in (("max_tokens", "30"), ("seed", "5")):
        browser.type(f"#{name}", value)
    (one,) = models["generate"].generate(["To be"], max_tokens=30, seed=5, temperature=0.8)
    assert browser.run("To be") == "To be" + one.text
    browser.type("#max_tokens", "100000")
    browser.click("#go")
    browser.until("document.querySelector('#out .wrong')")
    told = browser.js("document.querySelector('#out .wrong').textContent")
    assert told == "max_tokens: expected 1 to 512, got 100000"


def test_classify_one_and_pairs(browser, clients, models) -> None:
    browser.open(clients["classify"].url)
    assert "bad, fair, good" in browser.js("document.getElementById('about').textContent")
    (one,) = models["classify"].classify(["To be"])
    assert browser.run("To be").startswith(f"{one.label}{one.probability:.4f}")
    browser.open(clients["pairs"].url)
    browser.type("#pair", "b")
    (one,) = models["pairs"].classify([("a", "b")])
    assert browser.run("a").startswith(f"{one.label}{one.probability:.4f}")


def test_text_is_text_and_a_server_that_is_gone_is_told(browser, models) -> None:
    with Server(models["translate"], ServeConfig(port=0, limits=Limits(characters=80))) as server:
        browser.open(server.url)
        browser.type("#text", "x" * 81)
        browser.click("#go")
        browser.until("document.querySelector('#out .wrong')")
        assert browser.js("document.querySelector('#out .wrong').textContent") == "text of 81 characters: at most 80"
    browser.click("#go")
    browser.until("document.querySelector('#out .wrong')?.textContent.includes('fetch')")
    with Server(Vectors(), ServeConfig(port=0)) as server:
        browser.open(server.url)
        assert browser.run("<b>ab</b>") == f"[9,{sum(b'<b>ab</b>')}]"
