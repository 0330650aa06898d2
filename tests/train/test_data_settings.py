"""Kinds of batches, weights and mixtures in whole runs: resumed to the bit, refused where they can't be."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core.grad import value_and_grad
from seqlib.data.batch import collate
from seqlib.data.prepare import prepare
from seqlib.problems.translate_files import from_data
from seqlib.train import run
from seqlib.train.setup import make_config, make_epochs, open_problem, prepare_data
from seqlib.train.trainer import Trainer
from seqlib.util.errors import UsageError
from tests.train.conftest import Stop, same_checkpoint


def mixed(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A second corpus, a table with weights, seen two and a half times an epoch."""
    table = tmp_path / "more.tsv"
    lines = [f"one {n}\teins {n}\t{0.5 + n % 3}" for n in range(40)]
    table.write_text("\n".join(["en\tde\tw", *lines]) + "\n", encoding="utf-8")
    data = settings["data"] | {"mix": f"{table}*2.5", "weight": "w", "cache_dir": str(tmp_path / "cache")}
    return settings | {"data": data}


@pytest.mark.parametrize("kind", ["packing", "padding", "mixed packing", "sampled buckets"])
def test_a_resumed_run_has_the_same_bits(settings: dict[str, Any], tmp_path: Path, kind: str) -> None:
    if kind.startswith("mixed"):
        settings = mixed(settings, tmp_path)
    if kind.startswith("sampled"):
        settings["data"] = settings["data"] | {"tokenizer": "bpe", "subword_sampling": 0.3}
    settings["batch"] = settings["batch"] | {"kind": kind.split()[-1], "tokens": 512 if "packing" in kind else 1536}
    settings["train_steps"] = 40
    run.train(make_config(settings | {"output_dir": str(tmp_path / "whole")}))
    stopped = run.train(make_config(settings | {"output_dir": str(tmp_path / "halves")}), [Stop(17)])
    assert (stopped.stopped, stopped.position.step) == ("callback", 17)
    finished = run.resume(tmp_path / "halves")
    assert (finished.stopped, finished.position.step) == ("", 40)
    assert finished.position.epoch > 0
    same_checkpoint(tmp_path / "whole", tmp_path / "halves", 40)
    assert not [t.name for t in threading.enumerate() if t.name == "seqlib-prefetch"]


def test_packing_is_refused_for_a_model_with_a_row_for_each_sentence(settings: dict[str, Any]) -> None:
    settings["batch"] = {"kind": "packing"}
    recurrent = settings | {"model": "lstm_seq2seq", "hparams_set": "", "hparams": {}}
    with pytest.raises(
        UsageError, match=r"packing with lstm_seq2seq: the model needs a row for each sentence; use batch"
    ):
        make_config(recurrent)
    relative = settings | {"hparams": settings["hparams"] | {"positions": "relative"}}
    with pytest.raises(UsageError, match=r"packing with transformer: relative positions need a row for each sentence"):
        make_config(relative)
    make_config(settings)


def test_subword_sampling_from_settings_to_batches(settings: dict[str, Any]) -> None:
    """The prepared folder is that of a run without; batches hold the same sentences, cut otherwise in every epoch."""
    settings["data"] = settings["data"] | {"tokenizer": "unigram"}
    configs = [make_config(settings)]
    configs.append(make_config(settings | {"data": settings["data"] | {"subword_sampling": 0.5}}))
    data, same = (prepare_data(config, open_problem(config)) for config in configs)
    assert data.folder == same.folder
    plain, sampled = (make_epochs(config, data) for config in configs)
    assert plain.store_in(3) is data.train and plain.sampling is None
    cut_otherwise = 0
    for planned in sampled.plan(1).batches[:8]:
        batch = sampled.collated(planned, data.spec, 1)[0]
        again = make_epochs(configs[1], data).collated(planned, data.spec, 1)[0]
        assert all(np.array_equal(one, other) for one, other in zip(batch[:-1], again[:-1], strict=True))
        for row, index in enumerate(planned.indices.tolist()):
            source, target = data.train.pair(index)
            found = batch.src[row, : batch.src_lengths[row] - 1]
            assert data.tokenizer.decode(found) == data.tokenizer.decode(source)
            kept = batch.tgt_out[row][batch.tgt_out[row] > 2]
            assert data.tokenizer.decode(kept) == data.tokenizer.decode(target)
            cut_otherwise += not np.array_equal(found, source)
    assert cut_otherwise > 0


def test_subword_sampling_needs_pieces(settings: dict[str, Any], tmp_path: Path) -> None:
    for tokenizer, strength, message in (
        ("characters", 0.1, "characters knows only one way to cut a word"),
        ("bpe", 1.5, "between 0 and 1, such as 0.1; got 1.5"),
        ("unigram", -1.0, "alpha above 0, such as 0.2; got -1"),
    ):
        asked = {"tokenizer": tokenizer, "subword_sampling": strength, "cache_dir": str(tmp_path)}
        config = make_config(settings | {"data": settings["data"] | asked})
        with pytest.raises(UsageError, match=message):
            prepare_data(config, open_problem(config))
    assert not list(tmp_path.iterdir())


def test_a_mixture_from_settings_to_batches(settings: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(mixed(settings, tmp_path))
    data = prepare_data(config, open_problem(config))
    sizes = data.report.splits["train"].corpora
    assert len(sizes) == 2 and sum(sizes) == len(data.train) and 30 < sizes[1] <= 40
    epochs = make_epochs(config, data)
    seen = np.concatenate([batch.indices for epoch in (0, 1) for batch in epochs.plan(epoch).batches])
    counts = np.bincount(seen, minlength=len(data.train))
    assert (counts[: sizes[0]] == 2).all() and (counts[sizes[0] :] == 5).all()
    assert (data.train.weights[: sizes[0]] == 1).all()
    texts = [data.tokenizer.decode(data.train.pair(i)[0]) for i in range(sizes[0], len(data.train))]
    assert data.train.weights[sizes[0] :].tolist() == [0.5 + int(text.split()[1]) % 3 for text in texts]


def test_settings_of_files_need_files(settings: dict[str, Any]) -> None:
    for name in ("mix", "weight"):
        asked = {"problem": "translate_bulletin_ende", "data": {name: "a.tsv"}}
        with pytest.raises(UsageError, match=rf"data\.{name} is for own files"):
            make_config(asked)


@pytest.mark.parametrize("kind", ["buckets", "packing"])
def test_a_weight_of_two_is_the_pair_twice(tmp_path: Path, settings: dict[str, Any], kind: str) -> None:
    """Loss, weight and gradients of a weighted pair are those of the pair so many times."""
    lines = ["en\tde\tw", "one two\teins zwei\t2", "three\tdrei\t1", "four five six\tvier fünf sechs\t0"]
    (tmp_path / "w.tsv").write_text("\n".join(lines) + "\n")
    held = {"dev": str(tmp_path / "w.tsv"), "test": str(tmp_path / "w.tsv")}
    problem = from_data(str(tmp_path / "w.tsv"), source="en", target="de", weight="w", **held)
    data = prepare(problem, tmp_path / "cache", tokenizer="bytes")
    batch = {"kind": kind, "tokens": 256, "max_length": 64}
    config = make_config(settings | {"hparams": settings["hparams"] | {"dropout": 0.0}, "batch": batch})
    trainer = Trainer(config, problem, data)
    (planned,) = trainer.plan.batches

    def results(weights: Any, indices: list[int]) -> list[np.ndarray]:
        stops = {"stops": (len(indices),)} if kind == "packing" else {}
        batch = collate(data.train, planned._replace(indices=np.array(indices), **stops), data.spec)
        batch = batch if weights else batch._replace(weights=None)
        loss = value_and_grad(lambda b: trainer.model.loss(b, 0.1), params=trainer.model.trainable_parameters())
        with trainer.model.evaluating():
            (total, weight), grads = loss(batch)
        return [total.numpy(), weight.numpy(), *(grad.numpy() for grad in grads.values())]

    for found, expected in zip(results(True, [0, 1, 2]), results(False, [0, 0, 1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
