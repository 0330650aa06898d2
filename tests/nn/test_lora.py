"""Low-rank adapters: what they compute and train, apart, merged, saved and chosen."""

from __future__ import annotations

import numpy as np
import pytest

import seqlib
from seqlib.core.rng import Generator, use_generator
from seqlib.nn.attention import MultiHeadAttention
from seqlib.nn.linear import Linear
from seqlib.nn.lora import LoRALinear, add_lora, load_adapter, merge_lora, merged_state, save_adapter, use_adapter
from seqlib.nn.module import Module
from seqlib.util.errors import DataError, UsageError

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)


class Model(Module):
    head = ("output.*",)

    def __init__(self):
        with use_generator(Generator(1)):
            self.attention = MultiHeadAttention(8, 2, bias=True)
            self.inner, self.output = Linear(8, 8), Linear(8, 2)

    def forward(self, x):
        return self.output(self.inner(self.attention(x)))


def drawn(model, seed):
    rng = np.random.default_rng(seed)
    for name, parameter in model.trainable_parameters().items():
        if ".b." in name:
            parameter.assign(rng.normal(size=parameter.shape).astype(np.float32) * 0.3)
    return model


def value(model):
    with seqlib.no_grad():
        return model(X).numpy()


def test_an_adapter_is_a_product_added_to_the_matrix():
    model = Model()
    before, weight = value(model), model.attention.q_proj.weight.numpy()
    assert add_lora(model, 2, 3.0, ("*.q_proj", "*.v_proj")) == ["attention.q_proj", "attention.v_proj"]
    assert np.array_equal(value(model), before)  # b is 0
    names = set(model.trainable_parameters())
    parts = {f"attention.{p}_proj.{m}.default" for p in "qv" for m in "ab"}
    assert names == parts | {"output.weight", "output.bias"}
    drawn(model, 0)
    layer = model.attention.q_proj
    assert isinstance(layer, LoRALinear)
    wanted = weight + 1.5 * layer.b["default"].numpy() @ layer.a["default"].numpy()
    assert np.allclose(layer.effective("float32").numpy(), wanted, atol=1e-6)
    adapted = value(model)
    assert np.abs(adapted - before).max() > 0.01
    assert "attention.q_proj.gates.default" not in model.state_dict()
    plain = Model()
    plain.load(merged_state(model))
    assert np.allclose(value(plain), adapted, atol=1e-5)
    merge_lora(model)
    assert type(model.attention.q_proj) is Linear and model.state_dict().keys() == plain.state_dict().keys()
    assert np.allclose(value(model), adapted, atol=1e-5) and len(model.trainable_parameters()) == 12


def test_gradients_reach_the_adapter_alone():
    model = drawn(Model(), 0)
    add_lora(model, 2, targets=("inner",))
    drawn(model, 1)
    params = model.trainable_parameters()
    _, gradients = seqlib.value_and_grad(lambda: seqlib.sum(model(X) ** 2), params=params)()
    assert set(gradients) == {"inner.a.default", "inner.b.default", "output.weight", "output.bias"}
    name, step = "inner.a.default", 1e-2
    direction = np.random.default_rng(2).normal(size=params[name].shape).astype(np.float32)
    start, values = params[name].numpy(), []
    for sign in (1, -1):
        params[name].assign(start + sign * step * direction)
        values.append(float((value(model).astype(np.float64) ** 2).sum()))
    slope = (values[0] - values[1]) / (2 * step)
    assert abs(slope - float((gradients[name].numpy() * direction).sum())) < 2e-2 * abs(slope)


def test_adapters_are_saved_alone_and_chosen(tmp_path):
    results = {}
    for seed, name in ((1, "one"), (2, "two")):
        model = Model()
        add_lora(model, 1 + seed)
        drawn(model, seed)
        model.output.bias.assign(np.float32([seed, 0]))
        results[name] = value(model)
        save_adapter(model, tmp_path / name)
    model = Model()
    before = value(model)
    run = seqlib.compile(lambda x: model(x), state=[model])
    with pytest.raises(DataError, match="is of another model: layer inner"):
        other = Model()
        add_lora(other, 1, targets=("inner",))
        save_adapter(other, tmp_path / "other")
        wrong = Model()
        wrong.inner = Linear(8, 4)
        load_adapter(wrong, tmp_path / "other")
    load_adapter(model, tmp_path / "one", "one")
    load_adapter(model, tmp_path / "two", "two")
    assert np.allclose(value(model), results["two"], atol=1e-6)
    use_adapter(model, "one")  # the head stays the last one's
    assert np.allclose(value(model) - [2, 0], results["one"] - [1, 0], atol=1e-5)
    with seqlib.no_grad():
        for names in (("one",), ("two",), (), ("one", "two"), ("two",)):  # one program, whatever counts
            use_adapter(model, *names)
            assert np.allclose(run(X).numpy(), value(model), atol=1e-6)
    assert len(run.programs) == 1
    use_adapter(model)
    assert np.allclose(value(model) - [2, 0], before, atol=1e-6)


def test_bad_input(tmp_path):
    with pytest.raises(UsageError, match="rank of at least 1"):
        add_lora(Model(), 0)
    with pytest.raises(UsageError, match=r"no linear layer fits \*\.k; this model has attention.q_proj"):
        add_lora(Model(), 1, targets=("*.k",))
    with pytest.raises(UsageError, match="adapter"):
        use_adapter(Model(), "none")
    with pytest.raises(UsageError, match="adapter"):
        save_adapter(Model(), tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(DataError, match="no adapter, or damaged"):
        load_adapter(Model(), tmp_path / "bad")
