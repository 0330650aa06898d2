"""Code that a folder names is not run unasked: by `evaluate`, `report`, `--resume` and `inspect`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from seqlib import bundle
from seqlib.cli.main import main
from seqlib.train import run
from seqlib.train.evaluation import bundle_problem
from seqlib.train.report import write_report
from seqlib.train.setup import make_config
from seqlib.util.errors import BundleError, UsageError
from tests.train.conftest import Stop

CODE = """
from pathlib import Path
from seqlib.problems.translation import Translation
from seqlib.train.callback import Callback

Path(__file__).with_name("ran").touch()

class Digits(Translation):
    name, source_language, target_language, tokenizer = "digits", "en", "de", "characters"

    def splits(self):
        return ("train", "dev", "test")

    def samples(self, split):
        for n in range({"train": 200}.get(split, 20)):
            yield str(n * 37 % 1000), str(n * 37 % 1000)[::-1]

class Nothing(Callback):
    pass
"""


@pytest.fixture
def theirs(settings: dict[str, Any], tmp_path: Path) -> tuple[Path, str]:
    """A run of somebody's own problem that was stopped half-way, from another place than where its code is now."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(CODE)
    own = f"{tmp_path / 'code' / 'mine.py'}:Digits"
    settings["data"] = {"cache_dir": settings["data"]["cache_dir"], "vocab_size": 300}
    run.train(make_config(settings | {"problem": own, "report": True}), [Stop(4)])
    return tmp_path / "run", own


def _elsewhere(folder: Path, own: str) -> tuple[Path, str]:
    """The same code at another place, where it shows whether it was run; the folder names that place."""
    place = Path(own.rpartition(":")[0]).parent.parent / "evil"
    place.mkdir()
    (place / "mine.py").write_text(CODE)
    evil = f"{place / 'mine.py'}:Digits"
    config = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(config | {"problem": evil}))
    return place / "ran", evil


def test_a_resume_asks_for_trust(theirs: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, own = theirs
    ran, evil = _elsewhere(folder, own)
    with pytest.raises(UsageError, match=rf"problem {re.escape(evil)}.*not run unasked.*--trust"):
        run.resume(folder)
    assert main(["train", "--resume", str(folder)]) == 2 and not ran.exists()
    assert "--trust" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--callbacks", f"{evil.rpartition(':')[0]}:Nothing"]) == 2
    assert not ran.exists()


def test_a_run_goes_on_with_trust_or_when_its_code_is_named(theirs: tuple[Path, str]) -> None:
    folder, own = theirs
    config = run.resumed_config(folder, {"train_steps": 6, "problem": own})
    assert run.resume(folder, config).position.step == 6
    assert main(["train", "--resume", str(folder), "--train_steps", "7", "--trust"]) == 0


def test_what_stops_says_that_its_code_must_be_trusted(
    theirs: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = theirs
    run.resume(folder, run.resumed_config(folder, {}, trust=True), [Stop(6)])
    assert f"go on with: seqlib train --resume {folder} --trust" in capfd.readouterr().err


def test_a_bundle_s_problem_is_run_only_when_it_is_named(
    theirs: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, own = theirs
    run.resume(folder, run.resumed_config(folder, {"train_steps": 6}, trust=True))
    saved = bundle.read(folder)
    with pytest.raises(BundleError, match=r"its problem is code of somebody's own.*--problem FILE\.py:NAME"):
        bundle_problem(saved)
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--limit", "4"]) == 2 and own in capsys.readouterr().err
    assert main(["evaluate", str(folder), "--limit", "4", "--problem", own]) == 0
    assert json.loads(capsys.readouterr().out)["problem"] == "digits"
    named = bundle_problem(saved, problem=own)
    assert named.name == "digits"
    saved.record["problem"]["data"]["problem"] = "translate_bulletin_ende"
    with pytest.raises(UsageError, match="can't take its place"):
        bundle_problem(saved, problem=own)


def test_a_report_leaves_out_what_needs_code_that_was_not_named(theirs: tuple[Path, str]) -> None:
    folder, own = theirs
    run.resume(folder, run.resumed_config(folder, {"train_steps": 6}, trust=True))
    assert "By length" in (folder / "REPORT.html").read_text()  # the run's own
    ran, _ = _elsewhere(folder, own)
    text = write_report(folder).read_text()
    assert "is run only by --problem FILE.py:NAME" in text and not ran.exists()
    assert "By length" in write_report(folder, problem=own).read_text() and not ran.exists()
