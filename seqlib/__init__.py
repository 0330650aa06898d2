"""seqlib: train, fine-tune and run translation, generation and classification models on its own autodiff core.

The public names are loaded at first use, so that ``import seqlib`` costs no more than Python itself:
``PUBLIC`` says where each one lives.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_OPS = "seqlib.core.ops"

# Array functions that have NumPy's name in seqlib.core.ops as well.
_SAME_NAME = (
    "power maximum minimum exp log sqrt tanh abs sin cos equal not_equal less less_equal greater greater_equal "
    "logical_and logical_or logical_not isnan isinf isfinite floor sign square where clip all any "
    "sum prod mean max min argmax argmin var cumsum "
    "reshape transpose swapaxes concatenate stack unstack split pad expand_dims squeeze broadcast_to flip take sort "
    "argsort arange zeros ones full zeros_like ones_like matmul fft ifft rfft irfft "
    "rsqrt sigmoid relu gelu silu erf softmax log_softmax logsumexp one_hot top_k gather scatter_add embedding "
    "dropout multinomial attention layer_norm rms_norm glu cross_entropy linear_cross_entropy global_norm"
).split()

PUBLIC: dict[str, str] = {
    "Tensor": "seqlib.core.tensor:Tensor",
    "Variable": "seqlib.core.tensor:Variable",
    "Parameter": "seqlib.core.tensor:Parameter",
    "tensor": "seqlib.core.tensor:tensor",
    "grad": "seqlib.core.grad:grad",
    "value_and_grad": "seqlib.core.grad:value_and_grad",
    "no_grad": "seqlib.core.tape:no_grad",
    "hooks": "seqlib.core.hooks:hooks",
    "meta": "seqlib.core.meta:meta",
    "checkpoint": "seqlib.core.checkpoint:checkpoint",
    "custom_vjp": "seqlib.core.custom_vjp:custom_vjp",
    "compile": "seqlib.core.compile:compile",
    "Generator": "seqlib.core.rng:Generator",
    "seed": "seqlib.core.rng:seed",
    "save": "seqlib.bundle.tensors:save",
    "load": "seqlib.hub.load:load",
    "summary": "seqlib.train.summary:summary",
    "SeqlibError": "seqlib.util.errors:SeqlibError",
    "add": f"{_OPS}:add",
    "subtract": f"{_OPS}:sub",
    "multiply": f"{_OPS}:mul",
    "divide": f"{_OPS}:div",
    "negative": f"{_OPS}:neg",
    "astype": f"{_OPS}:cast",
    "scan": f"{_OPS}:scan",
    "einsum": "seqlib.nn.einsum:einsum",
    **{name: f"{_OPS}:{name}" for name in _SAME_NAME},
}

_PACKAGES = ("bundle", "core", "data", "decode", "hub", "models", "nn", "optim", "problems", "train", "util")

__all__ = ["__version__", *PUBLIC]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name or a sub-package at first use and keep it."""
    if name in PUBLIC:
        module, attribute = PUBLIC[name].split(":")
        if module.startswith("seqlib.core."):
            import_module(_OPS)  # a tensor's operators are ops
        value = getattr(import_module(module), attribute)
    elif name in _PACKAGES:
        value = import_module(f"seqlib.{name}")
    else:
        raise AttributeError(f"module 'seqlib' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC, *_PACKAGES})
