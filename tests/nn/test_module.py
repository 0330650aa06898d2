"""Module: names, modes, loading, freezing, replacing."""

import numpy as np
import pytest

from seqlib import nn
from seqlib.core.compile import compile
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Variable, tensor
from seqlib.util.errors import SeqlibError, ShapeError, UsageError


class Net(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(7, 4)
        self.layers = [nn.Linear(4, 4), nn.Linear(4, 4, bias=False)]
        self.heads = {"a": nn.Linear(4, 2), "b": nn.Dropout(0.5)}
        self.positions = nn.SinusoidalPositions(5, 4)
        self.count = Variable(np.int32(0), name="count")
        self.output_weight = self.embedding.weight

    def forward(self, ids):
        x = self.positions(self.embedding(ids))
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](self.heads["b"](x))


NAMES = ["embedding.weight", "layers.0.weight", "layers.0.bias", "layers.1.weight", "heads.a.weight", "heads.a.bias"]


def test_names_are_attribute_paths_and_tied_weights_come_once():
    net = Net()
    assert list(net.named_parameters()) == NAMES
    assert all(isinstance(p, Parameter) for p in net.parameters())
    assert net.num_parameters() == 28 + 20 + 16 + 10
    assert set(net.state_variables()) == {*NAMES, "positions.table", "count"}
    assert set(net.state_dict()) == {*NAMES, "count"}, "derived tables are state, but not saved"
    assert list(net.named_modules()) == [
        "", "embedding", "layers.0", "layers.1", "heads.a", "heads.b", "positions"
    ]  # fmt: skip


def test_modes_reach_every_module():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.named_modules().values())
    net.heads["b"].train()
    with net.evaluating():
        assert not net.heads["b"].training
    assert net.heads["b"].training and not net.training


def test_a_compiled_function_follows_modes_of_inner_modules_and_replacements():
    net = Net()
    ids = np.arange(3, dtype=np.int32)[None]
    generator = Generator(0)

    def run(ids):
        with use_generator(generator):
            return net(ids)

    step = compile(run, state=[{"net": net}, generator])
    first = step(ids).numpy()
    net.heads["b"].eval()  # an inner module alone
    assert not np.array_equal(step(ids).numpy(), first) and len(step.programs) == 2
    assert np.array_equal(step(ids).numpy(), run(ids).numpy())
    with net.evaluating():
        assert np.array_equal(step(ids).numpy(), run(ids).numpy())
    step(ids)
    assert len(step.programs) == 3, "the earlier modes have their programs still"
    net.freeze("layers.0.*")
    step(ids)
    assert len(step.programs) == 4
    net.replace("layers.0", nn.Linear(4, 4))
    assert np.array_equal(step(ids).numpy(), run(ids).numpy())


def test_state_dict_copies_and_load_writes_in_place():
    net, other = Net(), Net()
    saved = net.state_dict()
    storage = {name: v.data for name, v in other.state_variables().items()}
    other.load(saved)
    for name, variable in other.state_variables().items():
        assert variable.data is storage[name]
        if name in saved:
            np.testing.assert_array_equal(variable.numpy(), saved[name])
    saved["layers.0.weight"][:] = 9.0
    assert not np.any(net.state_dict()["layers.0.weight"] == 9.0)


def test_load_takes_a_tied_weight_under_any_of_its_names():
    net = Net()
    weights = net.state_dict()
    weights["output_weight"] = weights.pop("embedding.weight") + 1.0
    net.load(weights)
    np.testing.assert_array_equal(net.embedding.weight.numpy(), weights["output_weight"])
    weights["embedding.weight"] = weights["output_weight"].copy()
    net.load(weights)
    weights["embedding.weight"][0] += 1.0
    with pytest.raises(SeqlibError, match="ties"):
        net.load(weights)


def test_load_reports_all_problems_together_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    weights = net.state_dict()
    weights["layers.0.weigth"] = weights.pop("layers.0.weight")
    weights["layers.1.weight"] = np.zeros((3, 4), np.float32)
    weights["embedding.weight"] = weights["embedding.weight"] + 5.0
    with pytest.raises(SeqlibError) as raised:
        net.load(weights)
    text = str(raised.value)
    assert "missing (1):\n    layers.0.weight" in text
    assert "layers.0.weigth (is it layers.0.weight?)" in text
    assert "layers.1.weight: expected (4, 4), got (3, 4)" in text
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    del weights["layers.1.weight"]
    net.load(weights, strict=False)
    np.testing.assert_array_equal(net.state_dict()["embedding.weight"], weights["embedding.weight"])


def test_freeze_by_glob_and_predicate():
    net = Net()
    assert net.freeze("layers.*") == NAMES[1:4]
    assert list(net.trainable_parameters()) == [NAMES[0], *NAMES[4:]]
    assert net.freeze(lambda name, p: p.ndim == 1) == [NAMES[2], NAMES[5]]
    assert net.num_parameters(trainable_only=True) == 28 + 8
    net.freeze("*", frozen=False)
    assert list(net.trainable_parameters()) == NAMES
    with pytest.raises(UsageError, match=r"layers\.0\.weight"):
        net.freeze("layer.0.weight")


def test_replace_by_path():
    net = Net()
    for path, new in (("layers.1", nn.Linear(4, 4)), ("heads.b", nn.Dropout(0.1)), ("positions", nn.Dropout(0.0))):
        net.eval()
        old = net.named_modules()[path]
        assert net.replace(path, new) is old
        assert net.named_modules()[path] is new and not new.training
    assert "layers.1.bias" in net.named_parameters()
    for wrong in ("layers.2", "layer.0", "layers", "count", ""):
        with pytest.raises(UsageError, match="module"):
            net.replace(wrong, nn.Dropout(0.1))


def test_errors_name_the_layer():
    net = Net()
    net.replace("layers.1", nn.Linear(5, 4))
    with pytest.raises(ShapeError) as raised:
        net(tensor(np.zeros((2, 3), np.int32)))
    assert raised.value.__notes__ == ["in layer layers.1 (Linear)"]


def test_init_draws_from_the_ambient_generator():
    def weights(seed: int) -> np.ndarray:
        with use_generator(Generator(seed)):
            return Net().layers[0].weight.numpy()

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.any(weights(1) != weights(2))


def test_init_distributions():
    with use_generator(Generator(3)):
        x = nn.init.xavier_uniform((300, 500))
        assert x.dtype == np.float32
        bound = np.sqrt(6 / 800)
        assert np.abs(x).max() <= bound and x.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
        assert nn.init.xavier_normal((300, 500)).std() == pytest.approx(np.sqrt(2 / 800), rel=0.01)
        y = nn.init.normal((400, 500), std=0.2, mean=1.0)
        assert y.dtype == np.float32 and y.mean() == pytest.approx(1.0, abs=0.01)
        assert y.std() == pytest.approx(0.2, rel=0.01)
        z = nn.init.uniform((1000,), -3.0, -1.0)
        assert z.min() >= -3 and z.max() < -1
    assert nn.init.constant((2,), 4.0).tolist() == [4.0, 4.0]
    assert nn.init.zeros((2,)).sum() == 0 and nn.init.ones((2,)).sum() == 2
    with pytest.raises(ShapeError, match="matrix"):
        nn.init.xavier_uniform((3,))
