"""Tensors, gradients, gradients of gradients, and compiled functions. A second on a CPU."""

import numpy as np

import seqlib

# Tensors run at once. NumPy arrays keep their dtype; Python numbers adapt to what they meet.
x = seqlib.tensor(np.array([[1.0, -2.0, 0.5], [0.3, 0.0, 2.0]], np.float32))
y = seqlib.tanh(x[:, 1:]) * 2 + seqlib.sum(x, axis=-1, keepdims=True)
print("y", y.shape, y.dtype)
print(y.numpy().round(4))

# A gradient in PyTorch's manner: leaves that ask for one collect it.
w = seqlib.tensor(np.ones(3, np.float32), requires_grad=True)
seqlib.sum(seqlib.exp(x @ w)).backward()
print("w.grad", w.grad.numpy().round(4))


# And in JAX's: a function of arrays becomes a function that also gives gradients.
def loss(w: seqlib.Tensor, x: seqlib.Tensor) -> seqlib.Tensor:
    return seqlib.mean(seqlib.logsumexp(x * w, axis=-1)) + 0.1 * seqlib.sum(w**2)


value, gradient = seqlib.value_and_grad(loss)(w.detach(), x)
print("loss", round(value.item(), 4), "gradient", gradient.numpy().round(4))


# With create_graph a gradient can be differentiated again: the Hessian times a vector.
def hessian_vector(w: seqlib.Tensor, x: seqlib.Tensor, v: seqlib.Tensor) -> seqlib.Tensor:
    first = seqlib.grad(loss, create_graph=True)
    return seqlib.grad(lambda w: seqlib.sum(first(w, x) * v))(w)


v = seqlib.tensor(np.array([1.0, 0.0, -1.0], np.float32))
product = hessian_vector(w.detach(), x, v)
step = 1e-2
ahead, behind = (seqlib.grad(loss)(w.detach() + sign * step * v, x) for sign in (1.0, -1.0))
print("H v       ", product.numpy().round(4))
print("difference", ((ahead - behind) / (2 * step)).numpy().round(4))


# Compiled, the same function is traced once for each shape and replayed from one stretch of planned memory. State
# lives in Variables: `state` names those that the function may read and write.
weights = seqlib.Parameter(np.ones(3, np.float32), name="weights")


def descend(x: seqlib.Tensor) -> seqlib.Tensor:
    value, gradient = seqlib.value_and_grad(lambda p: loss(p, x), params=weights)(weights)
    weights.assign(weights - 0.5 * gradient)
    return value


compiled = seqlib.compile(descend, state=[weights])
fast = [compiled(x).item() for _ in range(20)]
after = weights.numpy()

weights.assign(np.ones(3, np.float32))
slow = [descend(x).item() for _ in range(20)]
assert fast == slow and np.array_equal(after, weights.numpy())  # to the bit
print(f"loss {fast[0]:.4f} → {fast[-1]:.4f} in 20 steps, compiled and eager alike to the bit")

program = compiled.programs[0]
print(f"{program.launch_count} launches, {program.arena_bytes} bytes planned:")
program.print_graph()
