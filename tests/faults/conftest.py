"""A corpus and a finished run that every case may damage; afterwards they are as they were."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import Stage, inside
from tests.train.conftest import write_corpus

TINY = """\
hparams_set: transformer_tiny
hparams: {encoder_layers: 1, decoder_layers: 1, d_model: 16, d_ff: 32, heads: 2, max_length: 128}
data: {cache_dir: prepared, tokenizer: characters, vocab_size: 300, dev_size: 24, test_size: 24}
batch: {tokens: 1024, max_length: 48, shapes: 2}
decode: {dev_sentences: -1, beam: 1}
train_steps: 12
save_every: 4
eval_every: 0
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a configuration, a run of 12 steps with checkpoints 4, 8 and 12, and its model."""
    folder = tmp_path_factory.mktemp("faults")
    for made, name in zip(write_corpus(folder, 400), ("corpus.en", "corpus.de"), strict=True):
        made.rename(folder / name)
    (folder / "tiny.yaml").write_text(TINY)
    stage = Stage(folder)
    with inside(folder):
        code, _, said = stage.command(
            "train --config tiny.yaml --data corpus.en,corpus.de --output_dir run --keep_last 3"
        )
    assert code == 0, said
    return folder


@pytest.fixture
def stage(finished: Path, tmp_path: Path) -> Iterator[Stage]:
    """The finished folder as the current one; whatever a test does to it is undone."""
    kept = tmp_path / "kept"
    shutil.copytree(finished, kept)
    with inside(finished):
        yield Stage(finished)
    for entry in os.scandir(finished):
        shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
    shutil.copytree(kept, finished, dirs_exist_ok=True)
