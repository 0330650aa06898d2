"""Fine-tuning of tiny translators and language models: in full, by layers, by adapters; what comes of it."""

from __future__ import annotations

import io
import json
import random
import shutil
import string
from itertools import combinations

import numpy as np
import pytest
from safetensors.numpy import load_file

import seqlib
from seqlib import bundle
from seqlib.cli.main import main
from seqlib.data.pretrained import read_tokenizer
from seqlib.data.tokenizer import train_tokenizer
from seqlib.data.vocabulary import encode_pairs
from seqlib.hub.fine_tune import fine_tune, settings
from seqlib.hub.load import read_model, spec_from
from seqlib.hub.save import save_pretrained
from seqlib.hub.surgery import rows_of, transplanted
from seqlib.nn.lora import load_adapter
from seqlib.problems.spec import ProblemSpec
from seqlib.train import run
from seqlib.train.config import read as read_run
from seqlib.train.setup import layer_rates
from seqlib.util.errors import UsageError
from tests.hub.stored import Stored

WORDS = ["cab", "dab", "fed", "bead", "face", "deaf", "cafe", "bad", "ace", "fab"]
OTHERS = ["gin", "hip", "jig", "king", "limp", "mink", "nip", "oil", "pin", "hog"]


def letters(folder, specials, size=40):
    """A tokenizer.json of letters, with the ids of a tiny checkpoint."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors

    free = iter([*"▁", *string.ascii_lowercase, *".,!?:;"])
    names = {number: name for name, number in specials.items()}
    vocab = {names.get(i) or next(free, f"<{i}>"): i for i in range(size)}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(list(specials))
    if "<s>" in specials:
        ends = [("<s>", specials["<s>"])] + ([("</s>", specials["</s>"])] if folder.name == "bart" else [])
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A" + " </s>" * (folder.name == "bart"), special_tokens=ends
        )
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "unk_token": "<unk>"}))


def pieces(folder):
    """Marian's two SentencePiece models and their vocabulary."""
    import sentencepiece

    found = {"</s>": 0, "<unk>": 1}
    for side, words in (("source", WORDS), ("target", OTHERS)):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(words)] * 20),
            model_writer=model,
            vocab_size=19 if side == "target" else 12,
            model_type="char",
            minloglevel=2,
        )
        (folder / f"{side}.spm").write_bytes(model.getvalue())
        each = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        for number in range(each.vocab_size()):
            found.setdefault(each.id_to_piece(number), len(found))
    (folder / "vocab.json").write_text(json.dumps(found | {"<pad>": 39}))
    assert len(found) < 39


SPECIALS = {
    "bart": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3},
    "t5": {"<pad>": 0, "</s>": 1, "<unk>": 2},
    "gpt2": {"</s>": 2, "<unk>": 3},
    "llama": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3},
}
SPECIALS["gemma3"] = SPECIALS["qwen2"] = SPECIALS["llama"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place, found = tmp_path_factory.mktemp("models"), {}
    for name in ("marian", *SPECIALS):
        stored = Stored(name)
        if name in ("marian", "bart"):
            stored.config["bad_words_ids"] = [[stored.config["pad_token_id"]]]
        if name == "bart":
            stored.config["forced_bos_token_id"] = 0
        found[name] = stored.write(place / name)
        pieces(found[name]) if name == "marian" else letters(found[name], SPECIALS[name])
    return found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Words for words."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "words.tsv"
    rows = [[draw.randrange(10) for _ in range(draw.choice((1, 2)))] for _ in range(400)]
    path.write_text("".join(f"{' '.join(WORDS[i] for i in r)}\t{' '.join(OTHERS[i] for i in r)}\n" for r in rows))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "words.jsonl"
    texts = [" ".join(f"{WORDS[i]} {OTHERS[i]}" for i in draw.choices(range(10), k=2)) for _ in range(400)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def tuned(handle, data, output, steps=30, tokenizer="", **optim):
    given = {
        "data": {"tokenizer": tokenizer, "paths": [str(data)], "cache_dir": str(output / "cache")},
        "optim": {"lr": 1e-2, "warmup": 3, **optim},
        "batch": {"tokens": 512},
        "decode": {"dev_sentences": 5, "beam": 2},
        "train_steps": steps,
        "eval_every": steps,
        "average": 0,
        "baselines": False,
        "report": False,
        "output_dir": str(output / "run"),
        "device": "cpu",
    }
    if data.suffix == ".jsonl":
        given["data"]["text"] = ["text"]
    return fine_tune(handle, given)


@pytest.mark.parametrize("name", ["marian", "bart", "t5"])
def test_a_translator_in_full(name, folders, pairs, tmp_path):
    result = tuned(folders[name], pairs, tmp_path, steps=60)
    model = seqlib.load(result.model)
    before = seqlib.load(folders[name])
    assert model.penalty == before.penalty == "power"
    assert model.spec.bos_id == before.spec.bos_id and model.spec.eos_id == before.spec.eos_id
    stored = read_run(result.folder / "run.json")
    assert stored.decode.beam == 2 and stored.hparams["family"] == ("t5" if name == "t5" else "marian")
    moved = model.model.state_dict()
    assert moved.keys() == before.model.state_dict().keys()
    found = [each.text for each in model.translate(["cab", "bad fab"])]
    assert all(set(text) <= set(" " + "".join(OTHERS + WORDS) + ".,!?:;") for text in found)
    save_pretrained(model, tmp_path / "published")
    again = seqlib.load(tmp_path / "published")
    assert all(np.array_equal(value, moved[key]) for key, value in again.model.state_dict().items())
    assert [each.text for each in again.translate(["cab", "bad fab"], beam=2)] == found


def test_what_texts_begin_with(folders):
    bart, marian = (read_tokenizer(folders[name]) for name in ("bart", "marian"))
    ((source, target),) = encode_pairs(bart, [("a", "b")])
    assert (source, target) == ([0, *bart.encode("a")], [0, *bart.encode("b")])
    assert bart.template(["a"])[0].ids == [*source, 2]
    ((source, target),) = encode_pairs(marian, [("cab", "gin")])
    assert 1 not in source and 1 not in target and marian.unk_id == 1 and marian.unk_id in marian.encode("gin")
    assert marian.vocab_size == 40 and (marian.pad_id, marian.bos_id, marian.eos_id) == (39, 39, 0)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "gemma3"])
def test_a_language_model_by_adapters(name, folders, texts, tmp_path, capsys):
    result = tuned(folders[name], texts, tmp_path, lora_rank=2)
    assert "%) trained" in capsys.readouterr().err
    model = seqlib.load(result.model)
    before, after = read_model(folders[name]).state_dict(), model.model.state_dict()
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed and all(key.endswith("_proj.weight") for key in changed)
    adapter = load_file(result.model / "adapter.safetensors")
    assert {key.removesuffix(".a") + ".weight" for key in adapter if key.endswith(".a")} == changed
    assert model.begin == ([2] if name == "gpt2" else [1])
    assert model.generate(["cab"], max_tokens=5, temperature=0)[0].text
    save_pretrained(model, tmp_path / "published")
    assert (
        json.loads((tmp_path / "published/config.json").read_text())["model_type"] == Stored(name).config["model_type"]
    )


def test_a_model_of_our_own_goes_on_and_is_resumed(folders, pairs, tmp_path):
    first = tuned(folders["marian"], pairs, tmp_path / "a")
    second = tuned(first.folder, pairs, tmp_path / "b", freeze=["encoder.*", "source_embedding*"])
    old, new = seqlib.load(first.model), seqlib.load(second.model)
    moved = {
        key for key, value in new.model.state_dict().items() if not np.array_equal(value, old.model.state_dict()[key])
    }
    assert moved and not any(key.startswith(("encoder.", "source_embedding")) for key in moved)
    assert read_run(second.folder / "run.json").decode.penalty == "power"
    shutil.rmtree(second.model)
    config = run.resumed_config(second.folder, {"train_steps": 33})
    assert run.resume(second.folder, config).position.step == 33


def scores(model, **options):
    return np.array([each.score for each in model.translate(["cab", "bad fab", "deaf face"], beam=1, **options)])


def test_adapters_are_chosen_call_by_call_and_merged(folders, pairs, tmp_path):
    """Two of them in one model give what the runs they come from give."""
    base, results = folders["marian"], {}
    model = seqlib.load(base)
    before = scores(model)
    for name, seed in (("one", 1), ("two", 2)):
        result = tuned(base, pairs, tmp_path / name, lora_rank=2, lr=3e-2 * seed)
        results[name] = scores(seqlib.load(result.model))
        load_adapter(model.model, result.model / "adapter.safetensors", name)
    assert min(np.abs(one - other).max() for one, other in combinations((*results.values(), before), 2)) > 0.01
    for name in ("two", "one", "two"):
        assert np.allclose(scores(model, adapter=name), results[name], atol=1e-4)
        (linked,) = model.translate(["bad fab"], beam=1, alignment=True, adapter=name)
        (alone,) = seqlib.load(tmp_path / name / "run").translate(["bad fab"], beam=1, alignment=True)
        assert linked.token_alignment == alone.token_alignment
    assert np.allclose(scores(model, adapter=""), before, atol=1e-5)
    assert np.allclose(scores(model), results["two"], atol=1e-4)  # loaded last
    with pytest.raises(UsageError, match="adapter 'three'"):
        scores(model, adapter="three")
    adapter = str(tmp_path / "one/run/model/adapter.safetensors")
    assert main(["hub", "convert", str(base), str(tmp_path / "merged"), "--merge", adapter]) == 0
    assert np.allclose(scores(seqlib.load(tmp_path / "merged")), results["one"], atol=1e-4)
    first = tuned(base, pairs, tmp_path / "again", steps=3)
    assert main(["hub", "convert", str(first.folder), str(tmp_path / "ours"), "--merge", adapter]) == 0
    assert bundle.read(tmp_path / "ours").metrics == {} and scores(seqlib.load(tmp_path / "ours")).any()


@pytest.mark.parametrize("name", ["marian", "llama"])
def test_a_new_vocabulary(name, folders, pairs, texts, tmp_path, capsys):
    data = pairs if name == "marian" else texts
    result = tuned(folders[name], data, tmp_path, steps=2, tokenizer="new")
    saved = bundle.read(result.model)
    counts = saved.record["training"]["vocabulary"]
    tokenizer, old = saved.tokenizer, read_tokenizer(folders[name])
    assert counts["reused"] + counts["added"] == tokenizer.vocab_size and counts["reused"] > 10
    assert f"vocabulary: {counts['reused']} pieces reused, {counts['added']}" in capsys.readouterr().err
    assert 0 < counts["dropped"] < old.vocab_size
    model = seqlib.load(result.model)
    assert model.model.state_dict()[EMBEDDING[name]].shape[0] == tokenizer.vocab_size
    assert run.resume(result.folder, run.resumed_config(result.folder, {"train_steps": 3})).model
    assert bundle.read(result.model).record["training"]["vocabulary"] == counts


EMBEDDING = {"marian": "source_embedding.weight", "llama": "embedding.weight"}


@pytest.mark.parametrize("name", ["marian", "llama"])
def test_rows_for_new_pieces(name, folders):
    old, spec = read_tokenizer(folders[name]), spec_from(Stored(name).config)
    new = train_tokenizer("bpe", [" ".join(WORDS)] * 9, 290)
    new_spec = ProblemSpec(source_vocab=new.vocab_size, target_vocab=new.vocab_size)
    rows, counts = rows_of(old, spec, new, new_spec)
    pieces = [new.piece(token) for token in range(new.vocab_size)]
    assert old.piece(rows[pieces.index("a")][0]) == "a" and len(rows[pieces.index("a")]) == 1
    whole = next(piece for piece in pieces if len(piece) >= 3 and piece[0] == "▁")
    assert "".join(old.piece(token) for token in rows[pieces.index(whole)]) == whole
    assert (
        rows[new.bos_id] == [spec.bos_id] and rows[new.eos_id] == [spec.eos_id] and rows[pieces.index("<0x41>")] == []
    )
    same = [len(row) == 1 and (i < 4 or old.piece(row[0]) == pieces[i]) for i, row in enumerate(rows)]
    assert counts == {"reused": sum(same), "added": len(same) - sum(same), "dropped": counts["dropped"]}
    weights = read_model(folders[name]).state_dict()
    moved = transplanted(weights, 40, rows)[EMBEDDING[name]]
    before = weights[EMBEDDING[name]]
    assert np.allclose(moved[pieces.index(whole)], before[rows[pieces.index(whole)]].mean(0), atol=1e-6)
    assert np.allclose(moved[pieces.index("<0x41>")], before.mean(0), atol=1e-6)


def test_rates_fall_from_the_decoder_to_the_encoder():
    names = ["source_embedding.weight", "encoder.0.attention.q_proj.weight", "encoder.1.attention.q_proj.weight"]
    names += ["encoder_norm.weight", "decoder.0.attention.q_proj.weight", "decoder_norm.weight", "output_bias"]
    found = layer_rates(names, 0.5)
    assert [found[name] for name in names] == [1 / 16, 1 / 8, 1 / 4, 1 / 4, 1 / 2, 1, 1]


def test_what_cant_be_had(folders, pairs, tmp_path):
    with pytest.raises(UsageError, match="for translation, and this is"):
        given = {"pretrained": str(folders["marian"]), "problem": "lm_pydoc"}
        from seqlib.train.setup import make_config

        make_config(settings(given))
    with pytest.raises(UsageError, match=r"fits \*.nothing; this model has encoder.\*.attention.q_proj"):
        tuned(folders["marian"], pairs, tmp_path, lora_rank=2, lora_targets=["*.nothing"])
    stored = Stored("marian")
    stored.config |= {"decoder_vocab_size": 30, "share_encoder_decoder_embeddings": False}
    with pytest.raises(UsageError, match="vocabularies of their own"):
        settings({"pretrained": str(stored.write(tmp_path / "two"))})
