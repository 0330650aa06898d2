"""The CUDA side without a GPU: kernels compile for every architecture; launch lists are planned and counted."""

import struct
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.backends.cuda import INCLUDE, OPS, Source
from seqlib.core.op import OPS as DECLARED
from seqlib.core.op import Meta
from seqlib.core.ops.expression import compile_expression
from seqlib.core.ops.expression_cuda import joined_source, source
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.data.batch import Batch
from seqlib.decode import advance_cuda  # noqa: F401  (it declares a source)
from seqlib.models import transformer
from seqlib.nn.feed_forward import FeedForward
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step

PACKAGE = OPS.parent.parent
SHARED = {75: 64 << 10, 80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}
"""Architectures that kernels are compiled for, and bytes of shared memory that a block may have."""


def _nvrtc() -> Any:
    return pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed (extra dev)")


def _headers() -> list[str]:
    found = [str(p.parent) for root in sys.path for p in Path(root).glob("nvidia/*/include/cuda_fp16.h")]
    if not found:
        pytest.skip("the CUDA headers are not installed (nvidia-cuda-runtime, extra dev)")
    return found[:1]


def _compile(text: str, name: str, names: Iterable[str], target: str) -> dict[str, int]:
    """Bytes of static shared memory of each instance. Fails with the compiler's log."""
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture={target}", "--std=c++17", f"-I{INCLUDE}", *(f"-I{p}" for p in _headers())]
    _, program = nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), 0, [], [])
    for expression in names:
        nvrtc.nvrtcAddNameExpression(program, expression.encode())
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytes(size + 2)  # never a cached object of one byte: the compiler writes into it
    nvrtc.nvrtcGetProgramLog(program, log)
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    cubin = bytes(nvrtc.nvrtcGetCUBINSize(program)[1])
    nvrtc.nvrtcGetCUBIN(program, cubin)
    sections = _sections(cubin)
    lowered = {n: nvrtc.nvrtcGetLoweredName(program, n.encode())[1].decode() for n in names}
    assert all(f".text.{mangled}" in sections for mangled in lowered.values())
    return {n: sections.get(f".nv.shared.{mangled}", 0) for n, mangled in lowered.items()}


def _sections(elf: bytes) -> dict[str, int]:
    """The sizes of an ELF file's sections."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, strings = struct.unpack_from("<3H", elf, 0x3A)
    headers = [struct.unpack_from("<2I4Q", elf, table + i * size) for i in range(count)]
    start = headers[strings][4]
    return {elf[start + h[0] : elf.index(b"\0", start + h[0])].decode(): h[5] for h in headers}


def _check_source(source: Source, names: Iterable[str], architecture: int) -> None:
    """Compile some instances for an architecture that they run on and compare the shared memory they need with it."""
    if not source.oldest <= architecture or (source.target and source.target != f"sm_{architecture}a"):
        return
    static = _compile(source.text, source.file, names, source.target or f"sm_{architecture}")
    for name, nbytes in static.items():
        assert nbytes + source.names[name] <= SHARED[architecture], name


def _fewer(names: Iterable[str]) -> tuple[str, ...]:
    """One instance of each kernel for each of its first and (unless numbers) last template arguments: what the gate
    has time for."""
    kept: dict[tuple[str, str], str] = {}
    for name in names:
        kernel, _, rest = name.partition("<")
        first, last = rest.split(",")[0], rest.split(",")[-1]
        for argument in (first, first if last.strip(" >").isdigit() else last):
            kept.setdefault((kernel, argument), name)
    return tuple(dict.fromkeys(kept.values()))


SOURCES = [pytest.param(s, id=Path(s.file).name) for s in Source.all]


@pytest.mark.parametrize("file", SOURCES)
def test_kernels_compile_for_the_oldest_and_newest_architecture(file: Source) -> None:
    served = [a for a in SHARED if a >= file.oldest and (not file.target or file.target == f"sm_{a}a")]
    for architecture in {served[0], served[-1]}:
        _check_source(file, _fewer(file.names), architecture)


@pytest.mark.parametrize("file", SOURCES)
def test_dynamic_shared_memory_fits_every_architecture(file: Source) -> None:
    limit = SHARED[90] if file.target == "sm_90a" else min(n for a, n in SHARED.items() if a >= file.oldest)
    assert max(file.names.values()) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SHARED)
@pytest.mark.parametrize("file", SOURCES)
def test_every_instance_of_every_kernel_compiles(file: Source, architecture: int) -> None:
    _check_source(file, file.names, architecture)


def _text(expression: str, params: tuple[str, ...], types: tuple[str, ...], out: str, compute: str) -> str:
    plan = compile_expression(expression, params)
    return source(plan, types, tuple("bool" if o in plan.masks else out for o in range(plan.outputs)), compute, 4)


def test_elementwise_kernels_compile() -> None:
    texts: list[str] = []
    for op in DECLARED.values():
        if op.expression is not None:
            bools = op.name.startswith("logical")
            types = tuple("bool" if bools or p == "condition" else "float" for p in op.params)
            compute = "bool" if set(types) == {"bool"} else "float"
            texts.append(_text(op.expression, tuple(op.params), types, "float", compute))
    for t in ("bf16", "f16", "double"):
        compute = "double" if t == "double" else "float"
        expression = "s = 1.0 / (1.0 + exp(-x)); x * s, s, where(less(x, y), power(x, 2.0), -abs(y))"
        texts.append(_text(expression, ("x", "y"), (t, "float"), t, compute))
        whole = compile_expression("x * y + s, less(x, y)", ("x", "y", "s"))
        texts.append(joined_source(whole, (t, "float", "float"), (t, "bool"), (True, True, False), compute))
    for i, text in enumerate(texts):
        _compile(text, f"elementwise{i}", (), "sm_90")


def test_every_source_file_has_instances() -> None:
    files = {str(p.relative_to(OPS)) if p.parent == OPS else str(p) for p in PACKAGE.rglob("*.cu")}
    assert {s.file for s in Source.all} == files
    assert all(s.names for s in Source.all)


# -- launch lists


def _training_step() -> Any:
    """The program of a Transformer's training step for a GPU."""
    config = transformer.TransformerConfig(encoder_layers=2, decoder_layers=2, d_model=64, d_ff=128, heads=4)
    spec = ProblemSpec(source_vocab=100, target_vocab=100, shared_vocab=True, pad_id=0, bos_id=1, eos_id=2)
    generator = Generator(1)
    model = transformer.build(config, spec, generator)
    optimizer = AdamW(model.trainable_parameters(), lr=1e-3)
    step = training_step(model, optimizer, generator, 0.1)
    ids, lengths = Meta((8, 16), np.dtype("int32")), Meta((8,), np.dtype("int32"))
    compiled = seqlib.compile(step, state=[model, optimizer, generator], device="cuda")
    return compiled.lower(Batch(ids, lengths, ids, ids, lengths))  # type: ignore[arg-type]


def test_a_compiled_function_is_planned_for_a_gpu_without_one() -> None:
    w = seqlib.core.tensor.Parameter(np.ones((8, 8), np.float32), "w")

    def loss(x: Any) -> Any:
        return seqlib.sum(seqlib.tanh(ops.matmul(x, w)))

    step = seqlib.compile(lambda x: seqlib.grad(loss, params={"w": w})(x), state=w, device="cuda")
    program = step.lower(Meta((4, 8), np.dtype("float32")))
    names = [launch.name for launch in program.plan.launches]
    assert names.count("matmul") == 2
    assert all(launch.kernel is not None for launch in program.plan.launches if launch.op is not None)
    assert "cupy" not in sys.modules


def test_biases_and_relu_join_their_products_on_a_gpu() -> None:
    """Nothing is added to a product afterwards; the residual sum, dropout and norm between layers are one launch."""
    names = Counter(x.name for x in _training_step().plan.launches)
    assert names["matmul_bias"] == names["matmul_bias_relu"] == 2 + 2  # the feed-forward layers have biases
    assert names["relu"] == 0
    assert names["add_dropout_layer_norm"] == names["add_dropout_layer_norm_bwd"] == 2 * 2 + 3 * 2


def test_a_training_step_is_kernels_alone() -> None:
    """Nothing breaks the graph: no launch of the step is a reference, which would allocate."""
    program = _training_step()
    broken = Counter(x.name for x in program.plan.launches if x.op is not None and x.kernel is None)
    assert not broken


def _names(fn: Any, *shapes: tuple[int, ...], state: Any = None) -> list[str]:
    """The launches of a function of 16-bit arrays."""
    half = seqlib.core.dtypes.canonical("bfloat16")
    program = seqlib.compile(fn, state=state, device="cuda").lower(*(Meta(shape, half) for shape in shapes))
    return [x.name for x in program.plan.launches]


def test_what_follows_a_product_joins_it_without_gradients_as_well() -> None:
    def layer(x: Any, w: Any, b: Any) -> Any:
        with no_grad():
            y = ops.matmul(ops.reshape(x, (-1, 16)), w, transpose_b=True) + b
            return ops.gelu(ops.reshape(y, (2, 4, 24)), approximate="tanh")

    assert _names(layer, (2, 4, 16), (24, 16), (24,)) == ["matmul_bias", "gelu_tanh"]  # a shape of its own between
    flat = _names(lambda x, w, b: ops.gelu(ops.matmul(x, w, transpose_b=True) + b, "tanh"), (8, 16), (24, 16), (24,))
    assert flat == ["matmul_bias_gelu"]
    erf = _names(lambda x, w, b: ops.gelu(ops.matmul(x, w, transpose_b=True) + b), (8, 16), (24, 16), (24,))
    assert erf == ["matmul_bias", "gelu_erf"]


def test_only_a_vector_of_the_products_width_joins_it_as_its_bias() -> None:
    def layer(x: Any, w: Any, b: Any) -> Any:
        return ops.matmul(x, w, transpose_b=True) + b

    for shape in ((8, 24), (1, 24), (8, 1), ()):
        assert _names(layer, (8, 16), (24, 16), shape) == ["matmul", "add"], shape
        assert "matmul" in _names(lambda *x: ops.gelu(layer(*x), "tanh"), (8, 16), (24, 16), shape), shape
        assert "matmul" in _names(lambda *x: ops.relu(layer(*x)), (8, 16), (24, 16), shape), shape


def test_gradients_of_a_weight_and_its_bias_are_one_launch_unless_something_stands_between() -> None:
    def gradients(g: Any, x: Any) -> Any:
        return ops.sum_to(g, (24,)), ops.matmul(g, x, True, False, True)

    def between(g: Any, x: Any) -> Any:
        sums = ops.sum_to(g, (24,))
        return ops.matmul(g, x * ops.mean(sums).astype(x.dtype), True, False, True), sums

    assert _names(gradients, (8, 24), (8, 16)) == ["matmul_sums"]
    assert "matmul_sums" not in _names(between, (8, 24), (8, 16))


def test_a_feed_forward_layer_takes_its_activation_and_dropout_along() -> None:
    def steps(activation: str, p: float) -> Counter[str]:
        layer = FeedForward(16, 64, activation, p).train()
        generator = Generator(0)

        def step(x: Any) -> Any:
            with use_generator(generator):
                return seqlib.grad(lambda: seqlib.sum(layer(x)), params=layer.named_parameters())()

        layer.compute_in("bfloat16")
        return Counter(_names(step, (2, 4, 16), state=[layer, generator]))

    gelu = steps("gelu_tanh", 0.0)
    assert gelu["matmul_bias_gelu"] == gelu["matmul_gelu_bwd"] == 1 and gelu["matmul_sums"] == 2
    relu = steps("relu", 0.1)
    assert relu["matmul_bias_relu"] == relu["dropout"] == relu["dropout_relu_bwd"] == 1 and not relu["relu_bwd"]
