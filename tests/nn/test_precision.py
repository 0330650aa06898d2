"""What a precision that is asked for comes to, and why."""

import pytest

from seqlib.core import dtypes
from seqlib.core.backends import choose_device
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends.cuda import CudaMissing, cuda
from seqlib.core.modes import half_products
from seqlib.nn import Linear
from seqlib.nn.precision import resolve_precision
from seqlib.util.errors import UsageError


class Half(Linear):
    half = True


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch):
    return lambda number: monkeypatch.setitem(vars(cuda()), "capability", number)


def test_on_the_cpu_it_is_float32_and_16_bits_are_refused_with_the_reason() -> None:
    model = Half(4, 4)
    found = resolve_precision("auto", "cpu", model)
    assert (found.compute, found.reason) == ("float32", "on the CPU all arithmetic is in float32")
    assert str(resolve_precision("fp32", "cpu", model)) == "float32 (as asked for)"
    with pytest.raises(UsageError, match="precision fp16: on the CPU all arithmetic is in float32; fp32 or auto"):
        resolve_precision("fp16", "cpu", model)
    with pytest.raises(UsageError, match="did you mean bf16"):
        resolve_precision("bf61", "cpu", model)


def test_bfloat16_products_on_the_cpu_take_onednn_and_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Half(4, 4)
    monkeypatch.setattr(onednn, "available", lambda: False)
    monkeypatch.setattr(onednn, "has_bfloat16", lambda: False)
    with pytest.raises(UsageError, match=r"take oneDNN, which is not installed \(.*pip install '\.\[onednn\]'\)"):
        resolve_precision("bf16", "cpu", model)
    monkeypatch.setattr(onednn, "available", lambda: True)
    with pytest.raises(UsageError, match=r"has no instructions for bfloat16 \(AVX512_BF16 or AMX\)"):
        resolve_precision("bf16", "cpu", model)
    monkeypatch.setattr(onednn, "has_bfloat16", lambda: True)
    found = resolve_precision("bf16", "cpu", model)
    assert found.half_products and str(found).startswith("float32, products in bfloat16 (as asked for, by ")
    found.apply(model)
    assert half_products() and model.weight.dtype == dtypes.float32 and not model.weight.copies
    resolve_precision("auto", "cpu", model).apply(model)
    assert not half_products()
    for packs, kept in ((False, "float32, products in bfloat16"), (True, "float32, weights in bfloat16, products in")):
        monkeypatch.setattr(onednn, "packs_bfloat16", lambda packs=packs: packs)
        assert str(resolve_precision("bf16", "cpu", model, in_use=True)).startswith(kept)


def test_on_a_gpu_by_what_it_and_the_model_can(capability) -> None:
    model = Half(4, 4)
    capability(90)
    found = resolve_precision("auto", "cuda", model)
    assert found.compute == "bfloat16" and "compute capability 9.0" in found.reason and not found.scales_loss
    found.apply(model)
    assert model.weight.dtype == dtypes.float32 and list(model.weight.copies) == [dtypes.bfloat16]
    assert resolve_precision("fp16", "cuda", model).scales_loss
    assert resolve_precision("auto", "cuda", Linear(4, 4)).compute == "float32"
    with pytest.raises(UsageError, match="Linear has parts that compute in float32 only"):
        resolve_precision("fp16", "cuda", Linear(4, 4))
    capability(75)
    assert "no bfloat16" in resolve_precision("auto", "cuda", model).reason
    with pytest.raises(UsageError, match=r"compute capability 7\.5 has no bfloat16"):
        resolve_precision("bf16", "cuda", model)
    assert resolve_precision("fp16", "cuda", model).compute == "float16"


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        choose_device("gpu")
    if cuda().usable():
        assert choose_device("auto") == choose_device("cuda") == "cuda"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(CudaMissing, match=r"device cuda: .*pip install|nvidia-smi"):
            choose_device("cuda")
