"""In which dtype a model keeps its parameters, in which it computes, and why."""

from typing import NamedTuple

from seqlib.core.backends.cuda import cuda
from seqlib.core.modes import set_half_products
from seqlib.core.op import installed
from seqlib.core.tensor import Parameter
from seqlib.nn.embedding import Embedding
from seqlib.nn.linear import Linear
from seqlib.nn.lora import LoRALinear
from seqlib.nn.module import Module
from seqlib.nn.weights import BFloat16Weight, FixedWeight, Int8Weight
from seqlib.util.errors import UsageError, unknown

_COMPUTE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
PRECISIONS = ("auto", *_COMPUTE)
"""What may be asked for in training; of a model in use also int8."""


class Precision(NamedTuple):
    """Dtypes of parameters (with the optimizer's slots) and of computation; `reason` says why these. `half_products`:
    on the CPU large products round their operands to bfloat16 and add up in float32. `params` in less than float32 are
    of models in use: see `fix`."""

    params: str
    compute: str
    reason: str
    half_products: bool = False

    @property
    def scales_loss(self) -> bool:
        """True where gradients of small numbers would be lost: float16 has 5 bits of exponent."""
        return self.compute == "float16"

    def apply(self, model: Module) -> None:
        """Let a model compute in it; on the CPU, all models of the process."""
        set_half_products(self.half_products)
        if self.params in _FIXED:
            fix(model, _FIXED[self.params])
        elif self.compute != self.params:
            model.compute_in(self.compute)

    def __str__(self) -> str:
        kept = f", parameters and sums in {self.params}" if self.compute != self.params else ""
        if self.params in _FIXED:
            kept = f", weights in {self.params}"
        products = ", products in bfloat16" if self.half_products else ""
        return f"{self.compute}{kept}{products} ({self.reason})"


_FIXED: dict[str, type[FixedWeight]] = {"int8": Int8Weight, "bfloat16": BFloat16Weight}


def fix(model: Module, kind: type[FixedWeight]) -> None:
    """Put a weight of a `kind` in the place of every matrix of linear layers, embeddings and output layers of a model,
    tied ones once: a half or a quarter of their memory; all that stays a parameter is frozen. Of a model with adapters
    int8 raises UsageError, bfloat16 leaves the layers that have them."""
    made: dict[int, FixedWeight] = {}
    for path, module in model.named_modules().items():
        if isinstance(module, LoRALinear):
            if kind is BFloat16Weight:
                continue
            raise UsageError(f"precision int8: {path} has adapters; merge them into the weights first")
        for name in ("weight",) if isinstance(module, (Linear, Embedding)) else ("output_weight",):
            weight = vars(module).get(name)
            if isinstance(weight, Parameter):
                if id(weight) not in made:
                    made[id(weight)] = kind(weight)
                setattr(module, name, made[id(weight)])
    for parameter in model.parameters():
        parameter.frozen = True


def resolve_precision(wanted: str, device: str, model: Module, in_use: bool = False) -> Precision:
    """What `wanted` ("auto", "fp32", "bf16", "fp16", "int8") means for a model on a device ("cpu", "cuda"); `in_use`:
    it is not trained.

    "auto" is bfloat16 on a GPU that has it (compute capability 8.0) for models that compute in 16 bits throughout
    (`Module.half`), else float32. On the CPU "bf16" is `half_products`, with the weights of a model in use kept
    so; "int8" is for the CPU and models in use. Raises UsageError for an unknown name, and for what can't be had.
    """
    if wanted not in (*PRECISIONS, "int8"):
        raise unknown("precision", wanted, (*PRECISIONS, "int8"))
    name = type(model).__name__
    if wanted == "fp32":
        return Precision("float32", "float32", "as asked for")
    from seqlib.core.backends import onednn_cpu as onednn

    if device == "cpu" and wanted == "bf16" and onednn.has_bfloat16():
        params = "bfloat16" if in_use and onednn.packs_bfloat16() else "float32"
        return Precision(params, "float32", f"as asked for, by {onednn.about()}", half_products=True)
    if device == "cpu":
        if wanted == "int8" and installed("numba"):
            return Precision("int8", "float32", "as asked for")
        against = "on the CPU all arithmetic is in float32"
        if wanted == "int8":
            against = "takes numba, which is not installed (in the checkout: pip install '.[fast]')"
        if wanted == "bf16" and not onednn.available():
            against += (
                "; products in bfloat16 take oneDNN, which is not installed (in the checkout: pip install '.[onednn]')"
            )
        elif wanted == "bf16":
            against += " where it has no instructions for bfloat16 (AVX512_BF16 or AMX)"
    elif wanted == "int8":
        against = "is for the CPU (--device cpu)"
    elif not model.half:
        against = f"{name} has parts that compute in float32 only"
    elif wanted != "fp16" and cuda().capability < 80:
        against = f"a GPU of compute capability {cuda().capability / 10} has no bfloat16 arithmetic"
    else:
        reason = (
            f"{name} on a GPU of compute capability {cuda().capability / 10}" if wanted == "auto" else "as asked for"
        )
        return Precision("float32", _COMPUTE.get(wanted, "bfloat16"), reason)
    if wanted != "auto":
        raise UsageError(f"precision {wanted}: {against}; fp32 or auto is what there is")
    return Precision("float32", "float32", against)
