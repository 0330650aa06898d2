"""The commands as a user runs them: in processes of their own, by flags, with exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from seqlib.cli import evaluate
from seqlib.problems.spec import ProblemSpec
from seqlib.train.config import DataConfig

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}
TINY = "encoder_layers=1,decoder_layers=1,d_model=16,d_ff=32,heads=2"


def seqlib(*args: str, stdin: str | bytes = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; a traceback is never an answer."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    found = subprocess.run(
        [sys.executable, "-m", "seqlib", *args], input=data, capture_output=True, check=False, cwd=cwd, env=ENVIRONMENT
    )
    result = subprocess.CompletedProcess(
        found.args, found.returncode, found.stdout.decode("utf-8"), found.stderr.decode("utf-8")
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def flags(folder: Path, output: Path) -> list[str]:
    """Flags of a run of seconds on the corpus in `folder`."""
    return [
        *("--data", f"{folder / 'w.en'},{folder / 'w.de'}", "--data.cache_dir", str(folder / "cache")),
        *("--vocab_size", "300", "--data.tokenizer", "characters", "--hparams_set", "transformer_tiny"),
        *("--hparams", TINY, "--batch.tokens", "256", "--output-dir", str(output), "--save_every", "5"),
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    lines = [[a, b, c, d] for a in WORDS for b in WORDS for c in WORDS for d in WORDS]
    (folder / "w.en").write_text("".join(" ".join(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "w.de").write_text(
        "".join(" ".join(WORDS[word] for word in line) + "\n" for line in lines), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path) -> Path:
    """A run folder with a trained model."""
    output = corpus / "run"
    found = seqlib("train", *flags(corpus, output), "--train_steps", "10", "--decode.dev_sentences", "10")
    assert found.returncode == 0, found.stderr
    assert "dev loss" in found.stderr and "dev bleu" in found.stderr and "target tok/s" in found.stderr
    assert not found.stdout
    return output


def test_the_run_folder(trained: Path) -> None:
    names = {entry.name for entry in trained.iterdir()}
    assert {"run.json", "log.jsonl", "checkpoints", "model"} <= names
    assert json.loads((trained / "run.json").read_text())["batch"]["tokens"] == 256


def test_translate_gives_a_line_for_a_line(trained: Path) -> None:
    found = seqlib("translate", str(trained), "--max_length", "8", stdin="one two\n\nthree four five\r\nsix")
    assert found.returncode == 0
    lines = found.stdout.split("\n")
    assert len(lines) == 5 and lines[1] == "" and lines[4] == ""


def test_translate_of_nothing_is_nothing(trained: Path) -> None:
    found = seqlib("translate", str(trained))
    assert (found.returncode, found.stdout) == (0, "")


def test_translate_json_and_n_best(trained: Path) -> None:
    options = ("--beam", "3", "--n_best", "3", "--max_length", "8")
    found = seqlib("translate", str(trained), *options, "--json", stdin="one\n\ntwo\n")
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["source"] for record in records] == ["one", "", "two"]
    assert len(records[0]["alternatives"]) == 2
    assert 0 <= records[0]["confidence"] <= 1
    plain = seqlib("translate", str(trained), *options, stdin="one\ntwo\n").stdout.splitlines()
    assert [line.split("\t")[0] for line in plain] == ["1", "1", "1", "2", "2", "2"]
    assert plain[0].split("\t")[2] == records[0]["text"]


def test_translate_shows_low_confidence(trained: Path) -> None:
    found = seqlib(
        "translate", str(trained), "--flag_low_confidence", "--max_length", "8", stdin="one two six four\nXYZ ? 77 @@\n"
    )
    columns = [line.split("\t") for line in found.stdout.splitlines()]
    assert all(len(row) == 3 and row[1] in ("ok", "low") for row in columns)
    assert columns[1][1] == "low"
    assert "have low confidence" in found.stderr


def test_translate_with_constraints(trained: Path, tmp_path: Path) -> None:
    prefixes = tmp_path / "prefixes.txt"
    prefixes.write_text("zwei\n\nvier\n")
    options = ("--max_length", "20", "--prefixes", str(prefixes), "--min_length", "12", "--no_repeat_ngram", "4")
    source = "two one\n\nfour six\n"
    found = seqlib("translate", str(trained), *options, "--ban", "e", "--alignment", "--json", stdin=source)
    assert found.returncode == 0, found.stderr
    first, empty, last = map(json.loads, found.stdout.splitlines())
    assert first["text"].startswith("zwei") and last["text"].startswith("vier") and empty["alignment"] == ""
    for record, prefix in ((first, "zwei"), (last, "vier")):
        assert "e" not in record["text"][len(prefix) :]
        links = [tuple(map(int, link.split("-"))) for link in record["alignment"].split()]
        assert [j for _, j in links] == list(range(len(record["text"].split())))
        assert len(record["token_alignment"].split()) >= 11
    plain = seqlib("translate", str(trained), "--max_length", "9", "--alignment", stdin="one two\n").stdout
    assert plain.rstrip("\n").count("\t") == 1
    short = seqlib("translate", str(trained), "--prefixes", str(prefixes), stdin="one\n")
    assert short.returncode == 2 and "prefixes: there are more than sentences" in short.stderr
    missing = seqlib("translate", str(trained), "--prefixes", str(tmp_path / "none"), stdin="one\n")
    assert missing.returncode == 2 and f"{tmp_path / 'none'}: cannot be read" in missing.stderr


def test_translate_by_sampling(trained: Path) -> None:
    options = ("--max_length", "8", "--n_best", "3", "--sample", "--temperature", "1.2", "--top_k", "9")
    found = [
        seqlib("translate", str(trained), *options, "--seed", seed, stdin="one\ntwo two\n").stdout
        for seed in ("1", "1", "2")
    ]
    assert found[0] == found[1] != found[2] and found[0].count("\n") == 6
    refused = seqlib("translate", str(trained), "--top_p", "0.5", stdin="one\n")
    assert refused.returncode == 2 and "--top_p is about sampling: give --sample too" in refused.stderr


def test_translate_with_several_models(trained: Path, corpus: Path, tmp_path: Path) -> None:
    source, options = "one two\nsix\n", ("--max_length", "8")
    one = seqlib("translate", str(trained), *options, stdin=source)
    twice = seqlib("translate", str(trained), str(trained), *options, stdin=source)
    assert twice.returncode == 0 and twice.stdout == one.stdout
    other = seqlib("train", *flags(corpus, tmp_path / "run"), "--data.tokenizer", "bytes", "--train_steps", "1")
    assert other.returncode == 0, other.stderr
    refused = seqlib("translate", str(trained), str(tmp_path / "run"), stdin=source)
    assert refused.returncode == 2
    assert f"{tmp_path / 'run'}" in refused.stderr and "its vocabulary is not that of" in refused.stderr


def test_translate_refuses_bytes_that_are_not_text(trained: Path) -> None:
    found = seqlib("translate", str(trained), stdin=b"one\ntw\xff\n")
    assert found.returncode == 2
    assert "standard input, line 2: not UTF-8" in found.stderr


def test_translate_streams_more_than_it_holds(trained: Path) -> None:
    found = seqlib("translate", str(trained), "--max_length", "2", "--batch_rows", "64", stdin="one\n" * 1500)
    assert found.stdout.count("\n") == 1500


def test_a_reader_that_leaves_is_no_error(trained: Path) -> None:
    source = trained.parent / "many.txt"
    source.write_text("one\n" * 3000)
    command = f"{sys.executable} -m seqlib translate {trained} --max_length 2 --beam 1 < {source} | head -1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert "Traceback" not in found.stderr and "BrokenPipe" not in found.stderr
    assert found.stdout.count("\n") == 1


def test_evaluate_prints_json_and_nothing_else(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    found = seqlib("evaluate", str(trained), "--beam", "1", "--limit", "20", "--translations", str(out))
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["sentences"] == 20 and report["beam"] == 1 and report["split"] == "test"
    assert report["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert 0 < report["loss"] < 10
    assert out.read_text().count("\n") == 20


def test_evaluate_on_own_files(trained: Path, corpus: Path) -> None:
    files = f"{corpus / 'w.en'},{corpus / 'w.de'}"
    report = json.loads(seqlib("evaluate", str(trained), "--data", files, "--limit", "5", "--beam", "1").stdout)
    assert report["sentences"] == 5 and report["split"] == files


def test_evaluate_without_a_loss_where_nothing_fits(trained: Path, tmp_path: Path) -> None:
    for name in ("long.en", "long.de"):
        (tmp_path / name).write_text("one two " * 5000 + "\n")
    found = seqlib("evaluate", str(trained), "--data", f"{tmp_path / 'long.en'},{tmp_path / 'long.de'}", "--beam", "1")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["sentences"] == 1 and report["loss"] is None


def test_a_model_of_the_other_direction_is_evaluated_in_it() -> None:
    data = msgspec.to_builtins(DataConfig(columns=("en", "de"), reverse=True))
    spec = ProblemSpec(source_vocab=9, target_vocab=9, source_language="de", target_language="en")
    bundle = SimpleNamespace(problem={"data": {"problem": "translate_x_ende", "data": data}}, spec=spec)
    own = evaluate._data(bundle, "test.tsv", None)
    assert own.columns == ("de", "en") and own.languages == ("de", "en") and not own.reverse
    assert evaluate._data(bundle, None, "elsewhere").reverse


def test_resume_extends_a_run(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    first = seqlib("train", *flags(corpus, output), "--train_steps", "5", "--decode.dev_sentences", "-1")
    assert first.returncode == 0, first.stderr
    found = seqlib("train", "--resume", str(output), "--train-steps", "8")
    assert found.returncode == 0, found.stderr
    assert "resumed after step 5" in found.stderr and "another environment" not in found.stderr
    refused = seqlib("train", "--resume", str(output), "--seed", "9")
    assert refused.returncode == 2 and "a resumed run keeps its settings: seed" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "run"
    command = [sys.executable, "-m", "seqlib", "train", *flags(corpus, output), "--train_steps", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not (output / "checkpoints").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert f"go on with: seqlib train --resume {output}" in said


def test_dry_run_measures_and_writes_no_run(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    found = seqlib("train", *flags(corpus, output), "--train_steps", "100", "--dry_run")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["weights_bytes"] >= 4 * report["parameters"]
    assert report["optimizer_bytes"] >= 8 * report["parameters"]
    assert report["memory_bytes"] == pytest.approx(report["measured_bytes"], rel=0.3)
    assert report["activations_bytes"] > 0 and report["step_seconds"] > 0 and report["steps"] == 100
    assert not output.exists()


def test_prepare_prints_the_report(corpus: Path, tmp_path: Path) -> None:
    files = f"{corpus / 'w.en'},{corpus / 'w.de'}"
    found = seqlib("prepare", "--data", files, "--data.cache_dir", str(tmp_path), "--data.tokenizer", "bytes")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert set(report["splits"]) == {"train", "dev", "test"}
    assert sum(split["pairs"] for split in report["splits"].values()) == len(WORDS) ** 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--problem", "translate_bulletin_ende"], "output_dir is missing"),
        (["train", "--output_dir", "x"], "what to train on is missing"),
        (["train", "--problem", "translate_buletin_ende", "--output_dir", "x"], "did you mean translate_bulletin_ende"),
        (["train", "--problem", "translate_bulletin_ende", "--model", "transfomer"], "did you mean transformer"),
        (["train", "--problem", "translate_bulletin_ende", "--hparams_set", "transformer_bas"], "transformer_base"),
        (["train", "--problem", "x", "--optim.lrate", "1"], "did you mean --"),
        (["train", "--problem", "x", "--device", "cudaa"], "did you mean cuda"),
        (["train", "--problem", "x", "--time_limit", "soon"], "time limit 'soon' is not a duration"),
        (["train", "--problem", "translate_bulletin_ende", "--hparams", "d_modl=3"], "did you mean d_model"),
        (["train", "--resume", "nowhere"], "no run can be read here"),
        (["train", "--data", "absent.en,absent.de", "--output_dir", "x"], "absent.en"),
        (["prepare"], "what to train on is missing"),
        (["evaluate", "nowhere"], "nowhere: there is no such folder"),
        (["translate", "nowhere"], "nowhere: there is no such folder"),
        (["translate", "nowhere", "--bem", "3"], "did you mean --beam"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(tmp_path: Path, args: list[str], message: str) -> None:
    found = seqlib(*args, cwd=tmp_path)
    assert found.returncode == 2
    assert message in found.stderr
    assert not found.stdout


def test_unequal_line_counts_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\nthree\n")
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    found = seqlib("train", "--data", "a.en,a.de", "--output_dir", "run", cwd=tmp_path)
    assert found.returncode == 2
    assert "a.en" in found.stderr and "a.de" in found.stderr


def test_damaged_model_files_are_named(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in (trained / "model").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "model.safetensors").write_bytes(b"damaged")
    found = seqlib("translate", str(copy), stdin="one\n")
    assert found.returncode == 2 and "model.safetensors: is damaged" in found.stderr


def test_the_core_commands_do_without_the_extras(trained: Path) -> None:
    """Translation runs with numba, sacrebleu, datasets and sklearn absent."""
    code = (
        "import sys\n"
        "for name in ('numba', 'sacrebleu', 'datasets', 'sklearn'): sys.modules[name] = None\n"
        "import seqlib\n"
        "print(len(seqlib.load(sys.argv[1]).translate(['one two'], max_length=4)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(trained)], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert found.stdout.strip() == "1", found.stderr
