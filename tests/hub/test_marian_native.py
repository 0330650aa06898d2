"""Marian's own files, as Bergamot and Firefox have them: settings, vocabularies, translating, back again."""

import io

import msgspec
import numpy as np
import pytest
import sentencepiece
import yaml
from click.testing import CliRunner

import seqlib
from seqlib.cli.translate import command
from seqlib.core.rng import Generator
from seqlib.hub.convert import to_safetensors
from seqlib.hub.load import read_model
from seqlib.hub.save import save_pretrained
from seqlib.models import marian_native
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import DataError, UsageError

WORDS = [f"{a}{b}" for a in "bdgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "or")]
CONFIG = TransformerConfig(
    family="marian_native", dropout=0.0, attention_dropout=0.0, ff_dropout=0.0,
    encoder_layers=2, decoder_layers=2, d_model=16, d_ff=24, heads=2, norm="post", norm_eps=1e-9, attention_bias=True,
    output_bias=True, zero_begin=True, decoder_history="ssru",
)  # fmt: skip


def pieces(seed):
    """A SentencePiece model with Marian's ids."""
    draw, out = np.random.default_rng(seed), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(draw.choice(WORDS, 8)) for _ in range(300)),
        model_writer=out, vocab_size=60, eos_id=0, unk_id=1, bos_id=-1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def drawn(config=CONFIG, shared=True):
    model = build(config, ProblemSpec(source_vocab=60, target_vocab=60, shared_vocab=shared), Generator(3))
    draw = np.random.default_rng(5)
    for parameter in model.parameters():
        parameter.assign(draw.normal(0, 0.4, parameter.shape).astype(np.float32))
    return model.eval()


def written(folder, model, vocabularies, **settings):
    """The folder of a model as Marian writes it."""
    folder.mkdir()
    found = marian_native.config_of(model)["marian"] | settings
    yml = np.frombuffer(yaml.safe_dump(found).encode() + b"\0", np.int8)
    np.savez(folder / "model.npz", **marian_native.names(model).write(model), **{"special:model.yml": yml})
    for name, content in vocabularies.items():
        (folder / name).write_bytes(content)
    (folder / "config.yml").write_text("beam-size: 3\nnormalize: 0.5\n")
    return folder


@pytest.mark.parametrize(
    ("changes", "shared"),
    [({}, True), ({"decoder_history": "attention", "activation": "silu"}, True), ({"tie_source": False}, False)],
    ids=["ssru", "attention", "two vocabularies"],
)
def test_a_folder_of_marian(changes, shared, tmp_path):
    model = drawn(msgspec.structs.replace(CONFIG, **changes), shared)
    one, two = pieces(0), pieces(1)
    vocabularies = {"vocab.ende.spm": one} if shared else {"srcvocab.ende.spm": one, "trgvocab.ende.spm": two}
    folder = written(tmp_path / "theirs", model, vocabularies)
    ready = seqlib.load(folder)
    assert (ready.beam, ready.alpha, ready.penalty) == (3, 0.5, "power")
    assert ready.model.config == model.config
    source = sentencepiece.SentencePieceProcessor(model_proto=one)
    target = sentencepiece.SentencePieceProcessor(model_proto=one if shared else two)
    texts = ["ba ke morlan", "ti", "gu so pan dor"]
    found = ready.translate(texts, max_length=12)
    for text, translation in zip(texts, found, strict=True):
        assert ready.tokenizer.encode(text) == source.encode(text)
        assert translation.text == target.decode(list(translation.tokens))

    for again in (save_pretrained(ready, tmp_path / "ours"), to_safetensors(folder, tmp_path / "converted")):
        loaded = seqlib.load(again)
        assert loaded.model.config == model.config
        assert (loaded.beam, loaded.alpha) == (3, 0.5)
        assert all(np.array_equal(v, model.state_dict()[k]) for k, v in loaded.model.state_dict().items())
        assert [t.text for t in loaded.translate(texts, max_length=12)] == [t.text for t in found]
    assert seqlib.load(folder / "model.npz").translate(texts, max_length=12) == found


def test_the_command_translate(tmp_path):
    folder = written(tmp_path / "theirs", drawn(), {"vocab.ende.spm": pieces(0)})
    done = CliRunner().invoke(
        command, [str(folder), "--max_length", "9"], input="ba ke\n\nti\n", catch_exceptions=False
    )
    texts = [t.text for t in seqlib.load(folder).translate(["ba ke", "", "ti"], max_length=9)]
    assert done.output == "\n".join(texts) + "\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transformer-preprocess": "n"}, "transformer-preprocess 'n' is not supported"),
        ({"dec-cell": "gru"}, "dec-cell 'gru' is not ssru"),
        ({"type": "s2s"}, "type 's2s'"),
    ],
)
def test_what_is_not_known_is_named(settings, words, tmp_path):
    folder = written(tmp_path / "theirs", drawn(), {}, **settings)
    with pytest.raises(UsageError, match=words):
        read_model(folder)


def test_files_that_tell_nothing_of_themselves(tmp_path):
    np.savez(tmp_path / "model.npz", w=np.ones(3))
    with pytest.raises(DataError, match=r"neither a config\.json beside it nor settings in it"):
        seqlib.load(tmp_path)
    folder = written(tmp_path / "theirs", drawn(), {})
    with pytest.raises(DataError, match=r"no tokenizer here.*vocab\.\*\.spm"):
        seqlib.load(folder)


def test_training_goes_through_the_states():
    """The loss of a few pairs falls to nothing, and what was learnt comes out step by step."""
    from seqlib.core.compile import compile
    from seqlib.decode.engine import Engine
    from seqlib.optim import AdamW
    from seqlib.train.step import training_step
    from tests.models.test_transformer import make_batch

    config = msgspec.structs.replace(CONFIG, dropout=0.0, attention_dropout=0.0, ff_dropout=0.0)
    model, batch = build(config, ProblemSpec(source_vocab=23, target_vocab=23), Generator(0)), make_batch()
    generator = Generator(0)
    optimizer = AdamW(model.trainable_parameters(), lr=1e-2, weight_decay=0.0)
    step = compile(training_step(model, optimizer, generator, 0.0), state=[model, optimizer, generator])
    for _ in range(120):
        result = step(batch)
    engine = Engine(model.eval(), model.spec)
    sources = [row[: n - 1].tolist() for row, n in zip(batch.src, batch.src_lengths, strict=True)]
    wanted = [row[: n - 1].tolist() for row, n in zip(batch.tgt_out, batch.tgt_lengths, strict=True)]
    for beam in (1, 3):
        found = [list(best.tokens) for (best,) in engine.decode(sources, beam=beam, max_length=8)]
        assert found == wanted, result
