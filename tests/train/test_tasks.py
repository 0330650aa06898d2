"""What the tasks share: their names, which models are theirs, what they tell a run."""

from pathlib import Path

import pytest

from seqlib.models import list_models, model_task
from seqlib.train.setup import make_config, task_name
from seqlib.train.tasks import task_of
from seqlib.util.errors import UsageError


def test_every_model_is_for_a_task_that_has_it_as_default_or_beside_it() -> None:
    for name in list_models():
        task = task_of(model_task(name))
        assert task.default_model in list_models(task.name) and name in list_models(task.name)
        assert list(task.sample_batches(make_config({"model": name}, source=False)))


def test_a_preset_tells_its_model() -> None:
    assert make_config({"hparams_set": "lstm_seq2seq_base"}, source=False).model == "lstm_seq2seq"


def test_an_unknown_task() -> None:
    with pytest.raises(UsageError, match="unknown task 'translatoin'; did you mean translation"):
        task_of("translatoin")


def test_the_task_of_files_and_names(tmp_path: Path) -> None:
    config = make_config({"problem": "translate_bulletin_ende"})
    assert (task_name(config), config.model) == ("translation", "transformer")
