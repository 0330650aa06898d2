"""Translation models trained here as folders of transformers and CTranslate2. What those make of them is asked by
`tests/parity/check_published.py`, where they are installed; here the folders are read back."""

import json

import msgspec
import numpy as np
import pytest

import seqlib
from seqlib import bundle
from seqlib.cli.main import main
from seqlib.core.rng import Generator
from seqlib.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.publish import to_transformers
from seqlib.models import transformer
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError

LINES = [f"the quick brown fox {i} jumps over the lazy dog {i * 7 % 13}" for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer.train(LINES, 310)


def saved(folder, tokenizer, **settings):
    """A saved Transformer with weights that were drawn."""
    sizes = {"encoder_layers": 2, "decoder_layers": 1, "d_model": 16, "d_ff": 32, "heads": 2, "max_length": 64}
    config = transformer.TransformerConfig(**(sizes | settings))
    size = tokenizer.vocab_size
    spec = ProblemSpec(source_vocab=size, target_vocab=size, source_language="en", target_language="de")
    model, draw = transformer.build(config, spec, Generator(0)), np.random.default_rng(0)
    for parameter in model.parameters():  # biases and norms, too, are then of some size
        noise = 0.05 * draw.standard_normal(parameter.shape)
        parameter.assign((parameter.numpy() + noise).astype(np.float32))
    bundle.write(
        folder,
        architecture="transformer",
        model_config=config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        spec=spec,
        problem={"name": "drawn"},
        generation={"num_beams": 1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        training={},
        metrics={},
    )
    return bundle.read(folder), model.eval()


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "pegasus"),
        ({"positions": "learned", "activation": "gelu"}, "pegasus"),
        ({"norm": "post", "positions": "sinusoidal_paper", "attention_bias": True}, "marian"),
    ],
)
def test_to_transformers(tmp_path, tokenizer, settings, kind):
    ours, model = saved(tmp_path / "ours", tokenizer, **settings)
    folder = to_transformers(ours, tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == kind
    assert config["scale_embedding"]
    names = open_checkpoint(folder).shapes
    assert names["model.shared.weight"] == (tokenizer.vocab_size, 16)
    assert names["model.decoder.layers.0.encoder_attn.q_proj.bias"] == (16,)
    assert ("model.encoder.layer_norm.weight" in names) == (kind == "pegasus")
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "config.json").stat().st_mode & 0o777
    for name in ("source.spm", "target.spm"):
        assert (folder / name).read_bytes() == tokenizer.model
    assert json.loads((folder / "vocab.json").read_text())["</s>"] == 2
    again = seqlib.load(folder)
    source = np.array([[*tokenizer.encode(LINES[0]), 2]], np.int32)
    target = np.array([[1, *range(10, 30)]], np.int32)
    lengths = np.array([source.shape[1]], np.int32)
    with seqlib.no_grad():
        expected, found = (m(source, lengths, target).numpy() for m in (model, again.model))
    assert np.abs(expected - found).max() < 2e-4 * np.abs(expected).max()  # eps of norms is theirs
    assert again.tokenizer.encode(LINES[1]) == tokenizer.encode(LINES[1])


def test_what_has_no_form_there(tmp_path, tokenizer):
    ours, _ = saved(tmp_path / "rotary", tokenizer, positions="rotary")
    with pytest.raises(UsageError, match="rotary positions"):
        to_transformers(ours, tmp_path / "theirs")
    ours, _ = saved(tmp_path / "untied", tokenizer, tie_output=False)
    with pytest.raises(UsageError, match="embeddings and output weights that are one matrix"):
        to_transformers(ours, tmp_path / "theirs")
    ours, _ = saved(tmp_path / "rms", tokenizer, norm_kind="rms")
    with pytest.raises(UsageError, match="norm_kind 'rms'"):
        to_transformers(ours, tmp_path / "theirs")
    characters = train_tokenizer("characters", LINES, 300)
    ours, _ = saved(tmp_path / "characters", characters)
    with pytest.raises(UsageError, match="a Transformer with a SentencePiece tokenizer can be published"):
        to_transformers(ours, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_to_ctranslate2(tmp_path, tokenizer):
    ctranslate2 = pytest.importorskip("ctranslate2")
    settings = {"positions": "rotary", "norm_kind": "rms", "activation": "swiglu", "kv_heads": 1}
    for number, chosen in enumerate(({}, {"norm": "post", "positions": "sinusoidal_paper"}, settings)):
        ours, _ = saved(tmp_path / f"ours{number}", tokenizer, **chosen)
        folder = tmp_path / f"theirs{number}"
        assert main(["hub", "convert", str(ours.path), str(folder), "--to", "ctranslate2"]) == 0
        theirs = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
        pieces = [[tokenizer.piece(token) for token in tokenizer.encode(line)] for line in LINES[:50]]
        found = theirs.translate_batch(pieces, beam_size=1, max_decoding_length=12)
        expected = seqlib.load(ours.path).translate(LINES[:50], beam=1, max_length=12)
        texts = [tokenizer.decode([theirs_id(tokenizer, p) for p in one.hypotheses[0]]) for one in found]
        assert texts == [one.text for one in expected]


def theirs_id(tokenizer, piece):
    return next(token for token in range(tokenizer.vocab_size) if tokenizer.piece(token) == piece)


def test_command_line(tmp_path, tokenizer, capsys):
    saved(tmp_path / "ours", tokenizer)
    assert main(["hub", "convert", str(tmp_path / "ours"), str(tmp_path / "out"), "--to", "transformers"]) == 0
    assert (tmp_path / "out" / "config.json").is_file()
    assert main(["hub", "convert", str(tmp_path / "out"), str(tmp_path / "other"), "--to", "ctranslate2"]) == 2
    assert "not a saved model" in capsys.readouterr().err
    assert msgspec.json.decode((tmp_path / "out" / "generation_config.json").read_bytes())["num_beams"] == 1
