"""The base install by itself: pip puts this checkout, without extras, into a fresh environment, and there it trains,
translates, generates, classifies and fine-tunes.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.stored import Stored

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("numba", "cupy", "datasets", "sklearn", "sacrebleu", "tensorboardX", "starlette", "uvicorn", "gguf", "jinja2")
UNREACHABLE = re.compile(r"No matching distribution found|Could not find a version|connection|timed out|resolve", re.I)

Seqlib = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the base install; skips where pip can't get the packages."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1", str(ROOT)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode and UNREACHABLE.search(found.stderr):
        pytest.skip(f"pip reaches no packages here: {found.stderr.strip().splitlines()[-1]}")
    assert found.returncode == 0, found.stderr
    return python


@pytest.fixture(scope="module")
def seqlib(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Seqlib:
    """The installed command in a folder of its own, where no file of the checkout is found."""
    folder = tmp_path_factory.mktemp("work")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SEQLIB", "PYTHON"))}
    environment |= {"SEQLIB_CACHE": str(folder / "cache"), "PYTHONNOUSERSITE": "1"}

    def run(*args: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        given = [str(bare), *args] if args[0] == "-c" else [str(bare.parent / "seqlib"), *args]
        found = subprocess.run(given, input=stdin, capture_output=True, text=True, cwd=folder, env=environment)
        assert found.returncode == code and "Traceback" not in found.stderr, found.stderr
        return found

    draw = random.Random(3)
    words = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}
    lines = [draw.choices(list(words), k=4) for _ in range(300)]
    (folder / "w.en").write_text("".join(" ".join(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "w.de").write_text("".join(" ".join(map(words.get, line)) + "\n" for line in lines), encoding="utf-8")  # type: ignore[arg-type]
    rows = [f"{' '.join(line)},{'low' if line[0] in ('one', 'two', 'three') else 'high'}\n" for line in lines]
    (folder / "w.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    Stored("bert_masked").write(folder / "bert")
    symbols = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefghijklmnopqrstuvwxyz.,!?"]
    (folder / "bert" / "vocab.txt").write_text("\n".join(symbols))
    return run


def test_nothing_else_is_there(seqlib: Seqlib) -> None:
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)], u.find_spec('seqlib'))"
    there, _, place = seqlib("-c", code, *EXTRAS).stdout.partition("] ")
    assert there == "[" and "site-packages" in place


def test_every_module_can_be_imported(seqlib: Seqlib) -> None:
    """But kernels for numba or a GPU, and the server."""
    code = (
        "import importlib, pkgutil, seqlib\n"
        "for m in pkgutil.walk_packages(seqlib.__path__, 'seqlib.'):\n"
        "    if not m.name.endswith(('_cpu', '_cuda', '.cuda', '__main__')) and '.serve.' not in m.name:\n"
        "        importlib.import_module(m.name)\n"
    )
    seqlib("-c", code)


def test_what_tells_about_it(seqlib: Seqlib) -> None:
    found = {
        one["name"]: one for one in json.loads(seqlib("doctor", "--json", code=1).stdout)
    }  # there are better ways to run
    assert found["numba"]["mend"].startswith("pip install '.[fast]'")
    assert "translate_bulletin_ende" in seqlib("list", "problems").stdout.split()
    assert json.loads(seqlib("info", "translate_bulletin_ende").stdout)["task"] == "translation"
    assert "nothing to compile" in seqlib("warmup").stdout
    assert "pip install '.[serve]'" in seqlib("serve", "bert", code=2).stderr


def _train(seqlib: Seqlib, output: str, *flags: str) -> str:
    given = ("--output_dir", output, "--train_steps", "4", "--eval_every", "4", "--batch.tokens", "512")
    return seqlib("train", *given, *flags).stderr


def test_a_translator(seqlib: Seqlib) -> None:
    sizes = "encoder_layers=1,decoder_layers=1,d_model=16,d_ff=32,heads=2"
    told = _train(seqlib, "mt", "--data", "w.en,w.de", "--hparams_set", "transformer_tiny", "--hparams", sizes)
    assert "no dev BLEU: sacrebleu is not installed (extra `eval`)" in told and "dev loss" in told
    assert float(re.findall(r"(-?[\d,]+) target tok/s", told)[-1].replace(",", "")) > 0
    for beam in ("1", "4"):
        found = seqlib("translate", "mt", "--beam", beam, "--max_length", "8", stdin="one two\n\nthree\n")
        assert found.stdout.count("\n") == 3
    assert json.loads(seqlib("evaluate", "mt", "--split", "dev").stdout)["loss"] > 0
    assert "dev loss" in _train(seqlib, "mt2", "--data", "w.en,w.de", "--from", "mt")


def test_a_language_model(seqlib: Seqlib) -> None:
    told = _train(seqlib, "lm", "--data", "w.en", "--hparams", "layers=1,d_model=16,heads=2")
    assert "unigram" in told
    found = seqlib("generate", "lm", "--prompt", "one two", "--max_tokens", "5", "--temperature", "0", "--json")
    made = json.loads(found.stdout)
    assert made["prompt"] == "one two" and made["stop_reason"] in ("length", "end")


@pytest.mark.parametrize("model", ["bag_ngrams", "text_cnn"])
def test_a_classifier(seqlib: Seqlib, model: str) -> None:
    told = _train(seqlib, model, "--data", "w.csv", "--text", "text", "--label", "label", "--model", model)
    assert "no n-gram baseline: scikit-learn is not installed (extra `eval`)" in told and "dev accuracy" in told
    assert seqlib("classify", model, stdin="one two six six\n").stdout.split()[0] in ("low", "high")
    assert 0 <= json.loads(seqlib("evaluate", model, "--split", "dev").stdout)["accuracy"] <= 1


def test_a_checkpoint_of_others_is_loaded_and_fine_tuned(seqlib: Seqlib) -> None:
    told = _train(seqlib, "tuned", "--from", "bert", "--data", "w.csv", "--text", "text", "--label", "label")
    assert "weights of bert; new:" in told
    assert seqlib("classify", "tuned", stdin="one two six six\n").stdout.split()[0] in ("low", "high")
