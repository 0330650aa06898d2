"""Loss on the answer only: prompts with answers, and conversations."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

import seqlib
from seqlib.cli.main import main
from seqlib.data.batch import collate
from seqlib.data.plan import bucket_plan
from seqlib.data.prepare import prepare
from seqlib.data.store import write_store
from seqlib.data.text import as_text, write_texts
from seqlib.hub.fine_tune import fine_tune
from seqlib.problems.language_model_files import from_data
from seqlib.problems.spec import ProblemSpec
from seqlib.train.run import train
from seqlib.train.setup import make_config
from seqlib.util.errors import DataError, UsageError
from tests.hub.stored import Stored
from tests.hub.test_fine_tune_writers import SPECIALS, letters

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """The answer is the question's word twice."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "questions.jsonl"
    words = ["".join(draw.choices("abcdef", k=draw.choice((2, 3, 4)))) for _ in range(400)]
    path.write_text("".join(json.dumps({"q": f"{word}?", "a": f"{word}{word}"}) + "\n" for word in words))
    return path


def test_what_is_learnt(questions, tmp_path):
    problem = from_data(str(questions), text=("q", "a"))
    data = prepare(problem, tmp_path, write=write_texts)
    store, tokenizer = data.store("train"), data.tokenizer
    flags, ids = store.pair(0)
    question, answer = tokenizer.decode(ids[flags[:-1] == 0]), tokenizer.decode(ids[flags[:-1] == 1])
    assert answer == 2 * question[:-1] and flags[-1] == 1
    plan = bucket_plan(store.lengths(), tokens=64, max_length=32, seed=0, epoch=0, digest="", max_shapes=4)
    batch = as_text(collate(store, plan.batches[0], data.spec), True)
    for row, number in enumerate(plan.batches[0].indices):
        flags, ids = store.pair(int(number))
        wanted = np.where(flags == 1, [*ids, data.spec.eos_id], -1)
        assert batch.targets[row, : len(wanted)].tolist() == wanted.tolist()
        assert (batch.targets[row, len(wanted) :] == -1).all()
        assert batch.inputs[row, : len(wanted)].tolist() == [data.spec.bos_id, *ids]


def test_padded_is_packed(tmp_path):
    from seqlib.data.packing import pack_plan

    pairs = [([0, 1, 0, 1, 1], [5, 6, 7, 8]), ([0, 0, 1], [9, 10]), ([1, 0], [11])]
    store = write_store(tmp_path / "store", pairs, 20)
    spec = ProblemSpec(source_vocab=20, target_vocab=20)
    options = {"max_length": 16, "seed": 0, "epoch": 0, "digest": ""}
    (planned,) = pack_plan(store.lengths(), tokens=32, **options).batches
    found = as_text(collate(store, planned, spec), True).targets
    assert sorted(found[found >= 0].tolist()) == sorted([6, 8, 2, 2, 11])


def test_from_a_run_to_its_use(questions, tmp_path, capsys):
    data = {"paths": [str(questions)], "text": ["q", "a"], "cache_dir": str(tmp_path / "cache")}
    given = {"data": data, "hparams_set": "gpt2_tiny", "hparams": {"layers": 2, "d_model": 32}, "report": False}
    given |= {"train_steps": 20, "eval_every": 20, "average": 0, "output_dir": str(tmp_path / "run"), "device": "cpu"}
    with pytest.raises(UsageError, match="only answers are learnt of these documents"):
        train(make_config(given))
    result = train(make_config(given | {"batch": {"kind": "buckets", "tokens": 512, "max_length": 64}}))
    dev = seqlib.load(result.model) and json.loads((result.model / "seqlib.json").read_text())["metrics"]["dev"]
    capsys.readouterr()
    assert main(["evaluate", str(result.folder), "--split", "dev"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(dev["loss"], rel=1e-4)


def test_conversations(tmp_path):
    folder = Stored("llama").write(tmp_path / "llama")
    letters(folder, SPECIALS["llama"])
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    path, draw = tmp_path / "chats.jsonl", random.Random(1)
    with open(path, "w") as file:
        for _ in range(120):
            a, b = ("".join(draw.choices("abcdef", k=3)) for _ in "ab")
            said = [("user", a), ("assistant", a * 2), ("user", b), ("assistant", b * 2)]
            file.write(json.dumps({"talk": [{"role": role, "content": text} for role, text in said]}) + "\n")
    data = {"paths": [str(path)], "text": ["talk"], "cache_dir": str(tmp_path / "cache")}
    given = {"data": data, "train_steps": 3, "eval_every": 0, "report": False, "output_dir": str(tmp_path / "run")}
    result = fine_tune(folder, given | {"batch": {"tokens": 512}, "average": 0, "device": "cpu"})
    saved = seqlib.load(result.model)
    problem = from_data(str(path), text="talk")
    record = next(problem.records("train"))
    flags, ids = problem.learnt(record, saved.tokenizer)
    first = json.loads(record.source)
    answers = "".join(saved.tokenizer.piece(token) for token, flag in zip(ids, flags) if flag).replace("▁", "")
    assert answers == f"{first[1]['content']}</s>{first[3]['content']}"
    assert flags[-1] == 1 and ids[-1] != saved.tokenizer.eos_id  # the last end is the one that batches add


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"talk": [{"role": "user", "content": "a"}]}', r":1: this conversation has no message of the assistant"),
        ('{"talk": []}\n{"talk": "a"}', r":1: this conversation has no message|:2: has no conversation in"),
    ],
)
def test_bad_conversations(line, words, tmp_path):
    folder = Stored("llama").write(tmp_path / "llama")
    letters(folder, SPECIALS["llama"])
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (tmp_path / "bad.jsonl").write_text(line)
    data = {"paths": [str(tmp_path / "bad.jsonl")], "text": ["talk"], "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(DataError, match=words):
        fine_tune(folder, {"data": data, "output_dir": str(tmp_path / "run"), "device": "cpu"})
