"""The forecast of a run's memory against what it took, and runs that there is not enough memory for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seqlib.train import run
from seqlib.train.setup import make_config
from seqlib.util.errors import OutOfMemoryError, UsageError

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import json, resource, sys
from pathlib import Path
from seqlib.train import run
from seqlib.train.callback import Callback
from seqlib.train.memory import forecast_memory
from seqlib.train.setup import make_config
from seqlib.util.errors import SeqlibError
from seqlib.util.memory import peak_bytes

settings, mode = json.loads(sys.argv[1]), sys.argv[2]

class Watch(Callback):
    def on_train_begin(self, trainer):
        if mode == "late":
            limit(60_000_000)  # after the forecast found enough

    def on_save_end(self, trainer, step):
        self.peak = peak_bytes()

def limit(more):
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + more, -1))

try:
    config = make_config(settings)
    if mode == "early":
        import numba  # its library takes more than the kernels then need
        limit(250_000_000)
    watch, folder = Watch(), Path(config.output_dir)
    folder.mkdir()
    trainer = run.make_trainer(config, folder, [watch])
    forecast = forecast_memory(trainer).total
    trainer.fit()
    print(json.dumps({"forecast": forecast, "peak": watch.peak}))
except SeqlibError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


def _run(settings: dict[str, Any], width: int, tokens: int, mode: str, **batch: int) -> dict[str, Any]:
    sizes = {"encoder_layers": 3, "decoder_layers": 3, "d_model": width, "d_ff": 4 * width, "heads": 4}
    settings = settings | {
        "hparams": sizes,
        "batch": {"tokens": tokens, "max_length": 48, "shapes": 4, **batch},
        "train_steps": 4,
        "eval_every": 2,
        "save_every": 2,
    }
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(settings), mode],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "Traceback" not in found.stderr, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "tokens", "accumulate"), [(128, 2048, 1), (256, 2048, 1), (256, 4096, 1), (256, 4096, 4)]
)
def test_the_forecast_is_within_15_percent(settings: dict[str, Any], width: int, tokens: int, accumulate: int) -> None:
    elsewhere = {**settings, "output_dir": settings["output_dir"] + "-first"}
    _run(elsewhere, width, tokens, "free", accumulate=accumulate)  # a compiler takes memory of its own
    found = _run(settings, width, tokens, "free", accumulate=accumulate)
    assert found["forecast"] == pytest.approx(found["peak"], rel=0.15), found


WHOLE = """
import json, sys
from seqlib.train import run
from seqlib.train.setup import make_config
from seqlib.util.memory import peak_bytes

forecasts, export = [], run.export
run.check_memory = lambda trainer, forecast: forecasts.append(forecast)
def ends(*args):
    forecasts.append(peak_bytes())
    return export(*args)
run.export = ends
run.train(make_config(json.loads(sys.argv[1])))
forecast, trained = forecasts
print(json.dumps({"forecast": forecast.total, "decoding": forecast.decoding, "trained": trained, "peak": peak_bytes()}))
"""


@pytest.mark.slow
def test_the_forecast_holds_for_dev_translations_the_end_of_the_run_and_its_report(tmp_path: Path) -> None:
    settings = {
        "problem": "translate_bulletin_ende",
        "data": {"cache_dir": str(tmp_path / "cache")},
        "hparams": {"d_model": 256, "d_ff": 512},
        "train_steps": 4,
        "eval_every": 2,
        "decode": {"dev_sentences": 96, "dev_beam": 2, "beam": 1},
        "output_dir": str(tmp_path / "first"),
    }
    words = [sys.executable, "-c", WHOLE]
    for name in ("first", "second"):  # the data are prepared by the first, which takes memory of its own
        settings["output_dir"] = str(tmp_path / name)
        done = subprocess.run(
            [*words, json.dumps(settings)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["decoding"] > 50_000_000, found
    assert found["forecast"] == pytest.approx(found["trained"], rel=0.15), found
    # An untrained model's last translations are longer than the references.
    assert found["forecast"] == pytest.approx(found["peak"], rel=0.25), found


def test_a_model_whose_weights_do_not_fit_is_told_before_they_are_made(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"memory_limit": "200kB", "optim": {**settings["optim"], "ema": 0.9}}
    with pytest.raises(OutOfMemoryError) as raised:
        run.train(make_config(settings))
    message = str(raised.value)
    assert "transformer_tiny with 9,936 parameters takes 0.1 MB for weights and 0.1 MB for adamw" in message
    assert "memory_limit is 200kB" in message
    assert "source_embedding.weight [281, 16]" in message and "data.vocab_size" in message and "adafactor" in message
    assert not (tmp_path / "run").exists()

    def fails(*args: Any, **rest: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(run, "Trainer", fails)
    with pytest.raises(OutOfMemoryError, match="for weights and"):
        run.train(make_config(settings | {"memory_limit": ""}))


def test_the_forecast_of_a_small_run(settings: dict[str, Any]) -> None:
    found = _run(settings, 128, 1024, "free")
    assert found["forecast"] == pytest.approx(found["peak"], rel=0.3), found


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does it")
@pytest.mark.parametrize("mode", ["early", "late"])
def test_too_little_memory_is_told_with_batch_and_tensors(settings: dict[str, Any], mode: str) -> None:
    """Before the first step where it can be known then, else where the allocation fails."""
    found = _run(settings, 256, 2048, mode)
    assert found["error"] == "OutOfMemoryError"
    message = found["message"]
    assert re.search(r"a batch of \d+ rows, \d+ source tokens, \d+ target tokens: out of memory: 2\d\d MB", message)
    assert " bytes) are needed for tensors, " in message and " are free. The largest" in message
    assert re.search(r"MB  float32\[\d+, \d+\]  matmul\w*, layer \S+ \(\S+/seqlib/nn/\w+\.py:\d+\)", message)
    assert "Lower batch.tokens (2048), raise batch.accumulate (1)" in message
    assert ("is what it can have" in message) == (mode == "early")


def test_a_memory_limit_is_kept_before_the_first_step(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'lots' is not a size"):
        make_config(settings | {"memory_limit": "lots"})
    with pytest.raises(OutOfMemoryError, match=r"The run would take .* memory_limit is 20MB"):
        run.train(make_config(settings | {"memory_limit": "20MB"}))
    assert not (tmp_path / "run").exists()
    assert run.train(make_config(settings | {"memory_limit": "8GB"})).model is not None
