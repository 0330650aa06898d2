"""A saved model comes back as the translator that it was."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib import bundle
from seqlib.core.rng import Generator
from seqlib.data.characters import BytesTokenizer
from seqlib.decode.load import load
from seqlib.decode.translate import Translator
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import BundleError


def test_round_trip(tmp_path):
    tokenizer = BytesTokenizer()
    spec = ProblemSpec(source_vocab=tokenizer.vocab_size, target_vocab=tokenizer.vocab_size)
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=16, d_ff=32, heads=2, max_length=64)
    model = build(config, spec, Generator(0)).eval()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["a", "be", "see"], rng.integers(1, 5))) for _ in range(80)]
    translator = Translator(model, tokenizer, spec, beam=2, alpha=0.8)
    calibration = translator.calibrate(texts, texts)
    bundle.write(
        tmp_path / "model",
        architecture="transformer",
        model_config=config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        spec=spec,
        problem={"name": "translate_test"},
        generation={"num_beams": 2, "length_penalty": 0.8},
        training={},
        metrics={},
        confidence=calibration.to_dict(),
        files=calibration.files(),
    )
    loaded = load(tmp_path / "model")
    assert (loaded.beam, loaded.alpha, loaded.threshold) == (2, 0.8, calibration.threshold)
    assert loaded.translate(texts[:6]) == translator.translate(texts[:6])
    assert load(tmp_path / "model", threshold=0.5).threshold == 0.5
    with pytest.raises(BundleError, match="no such folder"):
        load(tmp_path / "nothing")
