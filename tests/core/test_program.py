"""A program's own account: seconds and bytes of every launch."""

import numpy as np

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.op import Meta
from seqlib.core.tensor import Parameter, Variable


def test_profile_times_every_launch_and_updates_the_state() -> None:
    count = Variable(np.float32(0), "count")

    def step(x):
        count.assign(count + 1.0)
        return ops.exp(ops.matmul(x, x))

    compiled, x = compile(step, count), np.eye(5, dtype=np.float32)
    compiled(x)
    (program,) = compiled.programs
    seconds = program.profile([x], repeats=3)
    assert seconds.shape == (3, program.launch_count) and seconds.dtype == np.float64
    assert (seconds > 0).all()
    assert count.item() == 4


def test_bytes_of_a_launch() -> None:
    compiled = compile(lambda a, b: ops.matmul(a, b))
    compiled(np.ones((2, 3), np.float32), np.ones((3, 5), np.float32))
    (launch,) = compiled.programs[0].plan.launches
    assert launch.nbytes == 4 * (6 + 15 + 10) and launch.flops == 60


def test_flops_of_fused_ops() -> None:
    w = Parameter(np.ones((11, 6), np.float32), "w")

    def step(q, targets):
        def loss():
            y = ops.reshape(ops.attention(q, q, q), shape=(8, 6))
            return ops.linear_cross_entropy(y, w, targets)[0]

        return value_and_grad(loss, params=[w])()

    program = compile(step, w).lower(Meta((2, 4, 2, 3), np.dtype("f4")), Meta((8,), np.dtype("i4")))
    flops = {launch.name: launch.flops for launch in program.plan.launches}
    assert flops["attention"] == 2 * 2 * (2 * 2 * 4 * 4 * 3)
    assert flops["linear_cross_entropy"] == 2 * 2 * (8 * 6 * 11)  # the gradient by y is not wanted
