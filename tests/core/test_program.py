"""A program's own account: seconds and bytes of every launch."""

import numpy as np

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.tensor import Variable


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
