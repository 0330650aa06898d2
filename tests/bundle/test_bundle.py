"""Written and read back; every kind of damage is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib import bundle
from seqlib.bundle import folder
from seqlib.core.rng import Generator
from seqlib.data.tokenizer import CharacterTokenizer
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import BundleError

CONFIG = TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2, max_length=32)
TOKENIZER = CharacterTokenizer("etaoin")
SPEC = ProblemSpec(
    source_vocab=TOKENIZER.vocab_size, target_vocab=TOKENIZER.vocab_size, source_language="en", target_language="de"
)
FILES = ["config.json", "generation_config.json", "model.safetensors", "seqlib_tokenizer.json", "extra.bin"]


def _write(path: Path, **changes: Any) -> Any:
    model = build(CONFIG, SPEC, Generator(3))
    parts = {
        "architecture": "transformer",
        "model_config": CONFIG,
        "weights": model.state_dict(),
        "tokenizer": TOKENIZER,
        "spec": SPEC,
        "problem": {"name": "translate_test", "source_language": "en", "target_language": "de", "licence": "CC0"},
        "generation": {"num_beams": 4, "length_penalty": 0.6},
        "training": {"steps": 7, "environment": {"numpy": "2"}},
        "metrics": {"dev": {"bleu": {"score": 12.5, "signature": "nrefs:1"}, "loss": 1.25}},
        "files": {"extra.bin": b"\0\1"},
    }
    bundle.write(path, **(parts | changes))
    return model


def test_read_back_as_written(tmp_path: Path) -> None:
    model = _write(tmp_path / "model")
    found = bundle.read(tmp_path / "model")
    assert (found.architecture, found.model_config, found.spec) == ("transformer", CONFIG, SPEC)
    assert found.generation["num_beams"] == 4
    assert found.metrics["dev"]["loss"] == 1.25
    assert found.confidence is None
    assert found.file("extra.bin") == b"\0\1"
    assert found.tokenizer.encode("tea") == TOKENIZER.encode("tea")
    again = found.build_model()
    assert not again.training
    for name, array in model.state_dict().items():
        assert np.array_equal(again.state_dict()[name], array)


def test_the_card_says_what_it_is(tmp_path: Path) -> None:
    _write(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in ("# translate_test", "en → de", "dev bleu: 12.5 (`nrefs:1`)", "- steps: 7", "CC0", "seqlib.load"):
        assert text in card


def test_a_run_folder_stands_for_its_model(tmp_path: Path) -> None:
    _write(tmp_path / "model")
    assert bundle.read(tmp_path).path == tmp_path / "model"


def test_writing_again_replaces(tmp_path: Path) -> None:
    _write(tmp_path)
    _write(tmp_path, files=None)
    assert "extra.bin" not in {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(BundleError, match=r"extra\.bin: is not a file of this bundle"):
        bundle.read(tmp_path).file("extra.bin")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damage_is_named(tmp_path: Path, name: str, damage: str) -> None:
    _write(tmp_path)
    file = tmp_path / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: is (missing|damaged)"):
        bundle.read(tmp_path)


def test_digests_may_be_skipped(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "extra.bin").write_bytes(b"\2\3")
    assert bundle.read(tmp_path, check_digests=False).architecture == "transformer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, r"seqlib\.json: format version 99, this seqlib reads 2; update seqlib"),
        ({"format_version": 0}, r"format version 0, .* it must be made again"),
        ({"spec": {"source_vocab": "many"}}, r"seqlib\.json: does not fit this version"),
        ({"files": {"../secret": {}}}, "is not a file name"),
    ],
)
def test_other_versions_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    _write(tmp_path)
    file = tmp_path / "seqlib.json"
    record = json.loads(file.read_text()) | change
    del record["digest"]
    file.write_text(json.dumps(record | {"digest": folder._record_digest(record)}))
    with pytest.raises(BundleError, match=message):
        bundle.read(tmp_path)


def test_a_changed_record_is_found(tmp_path: Path) -> None:
    _write(tmp_path)
    file = tmp_path / "seqlib.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"metrics": {"dev": {"loss": 0.0}}}))
    with pytest.raises(BundleError, match=r"seqlib\.json: is damaged: its content does not have the digest"):
        bundle.read(tmp_path)
    file.write_text(json.dumps(record))  # another layout, the same content
    bundle.read(tmp_path)


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        bundle.read(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"not a saved model: seqlib\.json is missing"):
        bundle.read(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BundleError, match="seqlib train --resume"):
        bundle.read(tmp_path)
    (tmp_path / "seqlib.json").write_text("{")
    with pytest.raises(BundleError, match=r"seqlib\.json: is damaged"):
        bundle.read(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, weights={"positions": np.zeros(3, np.float32)})
    with pytest.raises(BundleError, match=r"model\.safetensors: does not fit config\.json"):
        bundle.read(tmp_path).build_model()


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    _write(tmp_path, architecture="perceptron")
    with pytest.raises(BundleError, match="no architecture 'perceptron'"):
        bundle.read(tmp_path)
