"""All ops by name: `from seqlib.core import ops; ops.softmax(x)`.

One file a family; kernels beside the op they serve.
"""

from importlib import import_module as _import
from pkgutil import iter_modules as _files

from seqlib.core import backward as _backward
from seqlib.core.ops.adamw import adamw, global_norm
from seqlib.core.ops.additive_scores import additive_scores
from seqlib.core.ops.attention import attention
from seqlib.core.ops.bfloat16 import bfloat16_product, bfloat16_rows
from seqlib.core.ops.bounds import IndexRangeError
from seqlib.core.ops.cache import update_slice
from seqlib.core.ops.create import advance_generator, arange, full, iota, ones, ones_like, zeros, zeros_like
from seqlib.core.ops.cross_entropy import cross_entropy, linear_cross_entropy
from seqlib.core.ops.elementwise import *  # noqa: F403
from seqlib.core.ops.elementwise import abs_ as abs
from seqlib.core.ops.embedding import embedding
from seqlib.core.ops.fourier import fft, ifft, irfft, rfft
from seqlib.core.ops.getitem import getitem
from seqlib.core.ops.glu import glu
from seqlib.core.ops.index import gather, one_hot, scatter_add, take
from seqlib.core.ops.int8 import int8_product, int8_rows
from seqlib.core.ops.join import concatenate, expand_dims, pad, split, squeeze, stack, unstack
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.norm import layer_norm, rms_norm
from seqlib.core.ops.random import dropout, multinomial, random_bits
from seqlib.core.ops.recurrent import gru, gru_step, lstm, lstm_step
from seqlib.core.ops.reduce import all, any, argmax, argmin, max, mean, min, sum, sum_to
from seqlib.core.ops.rotary import rotary
from seqlib.core.ops.scan import scan
from seqlib.core.ops.shape import broadcast_to, cast, flip, identity, reshape, slice_, swapaxes, transpose
from seqlib.core.ops.softmax import log_softmax, softmax
from seqlib.core.ops.sort import argsort, sort, top_k
from seqlib.core.ops.statistics import cumsum, logsumexp, prod, var
from seqlib.core.tensor import register_methods

register_methods({"getitem": getitem, "max": max, "mean": mean, "min": min})
register_methods({"cast": cast, "reshape": reshape, "transpose": transpose, "sum": sum, "matmul": matmul})

# Kernels for the GPU give themselves to their ops; nothing of CUDA is loaded before a GPU is asked for.
for _file in _files(__path__):  # noqa: F405
    if _file.name.endswith("_cuda"):
        _import(f"{__name__}.{_file.name}")
