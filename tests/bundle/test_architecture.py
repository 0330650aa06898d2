"""Models at a user's location: what may stand there, and that a saved one asks where its code is."""

from pathlib import Path

import pytest

from seqlib import bundle
from seqlib.bundle.architecture import builder, config_type
from seqlib.core.rng import Generator
from seqlib.problems.spec import ProblemSpec
from seqlib.train.setup import make_config
from seqlib.util.errors import BundleError, UsageError
from tests.bundle.test_bundle import _write

CODE = """
import msgspec
from seqlib.nn import EncoderDecoder, Linear

class Config(msgspec.Struct, frozen=True):
    width: int = 4
    max_length: int = 8

class Short(msgspec.Struct, frozen=True):
    width: int = 4

class Mine(EncoderDecoder):
    def __init__(self, config: Config, spec):
        self.config, self.part = config, Linear(config.width, spec.target_vocab)

def made(config: Config, spec, generator):
    return Mine(config, spec)

def short(config: Short, spec, generator): ...
def bare(config, spec, generator): ...
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_a_class_or_a_function(file: Path) -> None:
    spec = ProblemSpec(source_vocab=5, target_vocab=5)
    build = builder(f"{file}:Mine")
    one, two = (build(config_type(build)(width=6), spec, Generator(1)) for _ in range(2))
    assert one.part.weight.shape == (5, 6)
    assert one.part.weight.numpy().tobytes() == two.part.weight.numpy().tobytes(), "drawn from the generator"
    assert config_type(builder(f"{file}:made")) is config_type(build)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "Short has no max_length"),
        ("bare", r"expected a class of \(config, spec\)"),
        ("number", r"expected a class of \(config, spec\) .* got 3"),
        ("absent", "unknown name in .*'absent'"),
    ],
)
def test_what_does_not_fit_is_said(file: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        builder(f"{file}:{name}")


def test_a_run_keeps_the_place(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    config = make_config({"problem": "translate_bulletin_ende", "model": "mine.py:Mine", "hparams": {"width": 8}})
    assert (config.model, config.hparams_set) == (f"{file}:Mine", "")
    assert config.hparams == {"width": 8, "max_length": 8}
    with pytest.raises(UsageError, match=r"there is no file absent\.py"):
        make_config({"problem": "translate_bulletin_ende", "model": "absent.py:Mine"})


def test_a_saved_model_asks_where_its_code_is(file: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    build = builder(f"{file}:Mine")
    config = config_type(build)()
    weights = build(config, ProblemSpec(source_vocab=5, target_vocab=5), Generator(0)).state_dict()
    _write(place, architecture=f"{file}:Mine", model_config=config, weights=weights)
    with pytest.raises(BundleError, match=r"code of somebody's own, .*mine\.py:Mine .* --model FILE\.py:NAME"):
        bundle.read(place)
    moved = file.rename(tmp_path / "moved.py")
    assert bundle.read(place, model=f"{moved}:Mine").model_config.width == config.width
    with pytest.raises(UsageError, match=r"there is no file .*mine\.py"):
        bundle.read(place, model=f"{file}:Mine")
    with pytest.raises(UsageError, match="can't take its place"):
        bundle.read(place, model="transformer")
