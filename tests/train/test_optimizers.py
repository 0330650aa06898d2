"""Runs with each optimizer, an average and frozen parameters: resumed equals uninterrupted."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seqlib.train import checkpoint, run
from seqlib.train.setup import make_config
from seqlib.util.errors import UsageError
from tests.train.conftest import Stop, same_checkpoint


@pytest.mark.parametrize(
    "optim",
    [
        {"name": "adafactor", "ema": 0.9},
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
        {"name": "muon", "momentum": 0.9, "rounds": 3},
    ],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_one(
    settings: dict[str, Any], tmp_path: Path, optim: dict[str, Any]
) -> None:
    settings["optim"] |= {**optim, "freeze": ["encoder.*"]}
    run.train(make_config({**settings, "output_dir": str(tmp_path / "a")}))
    run.train(make_config({**settings, "output_dir": str(tmp_path / "b")}), [Stop(5)])
    start = checkpoint.load(tmp_path / "b/checkpoints/step-5")
    run.resume(tmp_path / "b")
    same_checkpoint(tmp_path / "a", tmp_path / "b", 12)
    end = checkpoint.load(tmp_path / "b/checkpoints/step-12")
    assert not any("encoder." in name.split(".", 1)[1][:8] for name in end.optimizer if "." in name)
    for name, value in end.model.items():
        moved = not np.array_equal(value, start.model[name])
        assert moved != name.startswith("encoder."), name
    if "ema" in optim:
        weights = end.optimizer["ema.source_embedding.weight"]
        from safetensors.numpy import load_file

        saved = load_file(next((tmp_path / "b").rglob("model/model.safetensors")))
        np.testing.assert_array_equal(saved["source_embedding.weight"], weights)


def test_an_unknown_optimizer_is_answered(settings: dict[str, Any]) -> None:
    settings["optim"]["name"] = "adamx"
    with pytest.raises(UsageError, match="adamw"):
        make_config(settings)


def test_settings_of_another_optimizer_are_refused(settings: dict[str, Any]) -> None:
    def optim(**changes: Any) -> dict[str, Any]:
        return settings | {"optim": {**settings["optim"], **changes}}

    for name, setting, value, own in (
        ("sgd", "betas", (0.9, 0.9), "optim.momentum and optim.nesterov"),
        ("adafactor", "eps", 1e-3, "optim.momentum and optim.relative"),
        ("adamw", "momentum", 0.9, "optim.betas and optim.eps"),
        ("adamw", "rounds", 3, "optim.betas and optim.eps"),
        ("sgd", "relative", False, "optim.momentum and optim.nesterov"),
    ):
        with pytest.raises(UsageError, match=rf"optim\.{setting} is a setting of .*; {name} has {own}"):
            make_config(optim(name=name, **{setting: value}))
    # The preset's betas are nobody's request, and a dumped configuration holds every setting.
    whole = msgspec.to_builtins(make_config(optim(name="sgd", momentum=0.9)))
    assert make_config(whole).optim.momentum == 0.9
