"""`compile(step, state)`: the same function, traced once for each signature and replayed."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from seqlib.core import debug, tree
from seqlib.core.ambient import setting
from seqlib.core.backends import backend_of, is_cuda
from seqlib.core.graph import active_graph
from seqlib.core.hooks import NonFinite, hooks
from seqlib.core.keys import Key, static, why
from seqlib.core.lower import lower
from seqlib.core.modes import half_products, mode_changes
from seqlib.core.op import Meta
from seqlib.core.passes import optimize
from seqlib.core.program import Program
from seqlib.core.rng import current_generator
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, Variable, as_array
from seqlib.core.trace import Traced, collect_variables, trace
from seqlib.util.errors import TraceError, UsageError
from seqlib.util.log import get_logger

MANY = 12  # programs of one function after which the log tells of the next


class _Call(NamedTuple):
    """Arguments: their structure, a Meta for each tensor or array and the leaf itself for anything else, the arrays."""

    structure: tree.TreeDef
    leaves: list[Any]
    arrays: list[Any]


class Compiled:
    """A function that runs as programs, one for each signature. Made by `compile`.

    `programs` lists them in the order in which they were built, each with the `reason` why it was.
    """

    def __init__(self, fn: Callable[..., Any], state: Any, max_programs: int, device: str | None) -> None:
        self.fn = fn
        self.state = state
        self.max_programs = max_programs
        self.device = device
        self._programs: dict[Key, _Built] = {}
        self._built = 0
        self._calls = itertools.count()
        self._read: tuple[int, tuple[tuple[Any, ...], str | None, set[int]]] | None = None
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        self.__doc__ = fn.__doc__

    @property
    def programs(self) -> list[Program]:
        return [built.program for built in self._programs.values()]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if active_graph() is not None:
            return self.fn(*args, **kwargs)  # inside another trace it is part of that
        call = self._call(args, kwargs)
        found = self._find(call)
        results = found.program.run(call.arrays)
        flat = [Tensor(results[leaf]) if is_tensor else leaf for is_tensor, leaf in found.traced.result_leaves]
        return tree.unflatten(found.traced.result_tree, flat)

    def lower(self, *args: Any, **kwargs: Any) -> Program:
        """The program for these arguments (tensors, arrays, or `Meta` for shapes alone), built if need be but
        not run.
        """
        return self._find(self._call(args, kwargs)).program

    def find_non_finite(self, *args: Any, **kwargs: Any) -> NonFinite | None:
        """The first launch of a call with these arguments that makes NaN or infinity; None where none does.

        The call runs to its end under `hooks`, without fusion, so that an op is named; all that it wrote to `state` is
        put back. To repeat a step that has been taken, put the generator back first: its draws are those of the next
        step otherwise.
        """
        call = self._call(args, kwargs)
        with setting(fusion=False):
            program = self._build(call, self._read_state()[1] or backend_of(call.arrays).device, "").program
        written = [(v, v.numpy()) for v, _ in program.graph.updates]
        try:
            with hooks() as seen:
                program.run(call.arrays)
        finally:
            for variable, content in written:
                variable.assign(content)
        return seen.first_non_finite

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        given, structure = tree.flatten((args, kwargs))
        call = _Call(structure, [], [])
        for leaf in given:
            if isinstance(leaf, Variable):
                text = f"the Variable {leaf.name or leaf!r} is an argument; list it in state instead"
                raise TraceError(f"compile {self.__name__}: {text}")
            if isinstance(leaf, (Tensor, np.ndarray, np.generic)) or is_cuda(leaf):
                array = cast("Any", leaf.data if isinstance(leaf, Tensor) else leaf)
                array = array if is_cuda(array) else as_array(array)
                call.arrays.append(array)
                call.leaves.append(Meta(array.shape, array.dtype))
                continue
            try:
                hash(leaf)
            except TypeError:
                text = f"compile {self.__name__}: the argument {leaf!r} is neither a tensor nor hashable"
                raise TraceError(text) from None
            call.leaves.append(leaf)
        return call

    def _find(self, call: _Call) -> "_Built":
        leaves = tuple(leaf if isinstance(leaf, Meta) else static(leaf) for leaf in call.leaves)
        modes, device, variables = self._read_state()
        device = device or backend_of(call.arrays).device
        # The ambient generator counts where the function can draw from it: where it is in `state`.
        generator = current_generator()
        generator = generator if id(generator.state) in variables else None
        switches = (*debug.switches(), *["products of bfloat16"] * half_products())
        key = Key(call.structure, leaves, grad_enabled(), switches, generator, modes, device)
        found = self._programs.get(key)
        if found is None:
            found = self._build(call, device, why(key, self._programs))
            if len(self._programs) >= self.max_programs:
                del self._programs[min(self._programs, key=lambda k: self._programs[k].last_call)]
            self._programs[key] = found
        found.last_call = next(self._calls)
        return found

    def _read_state(self) -> tuple[tuple[Any, ...], str | None, set[int]]:
        """`training` of every module and `frozen` of every parameter in `state`, the device of its Variables (None
        without any) and their ids; read again after a change only.
        """
        changes = mode_changes()
        if self._read is None or self._read[0] != changes:
            variables = _variables(self.state).values()
            device = self.device or (backend_of(v.data for v in variables).device if variables else None)
            self._read = (changes, (tuple(_modes(self.state)), device, {id(v) for v in variables}))
        return self._read[1]

    def _build(self, call: _Call, device: str, reason: str) -> "_Built":
        start = time.perf_counter()
        variables = _variables(self.state)
        for name, variable in variables.items():
            if not variable.name:
                variable.name = name
        traced = trace(self.fn, call.structure, call.leaves, variables, device)
        optimize(traced.graph)
        program = Program(traced.graph, lower(traced.graph), time.perf_counter() - start, reason)
        self._built += 1
        self._tell(program)
        return _Built(program, traced)

    def _tell(self, program: Program) -> None:
        """The log's line for a new program: each one with SEQLIB_DEBUG, else only where there are too many."""
        name = f"compile {self.__name__}: program {self._built}"
        because = f"; built because {program.reason}" if program.reason else ""
        if debug.level() >= 1:
            get_logger().info("%s: %s%s", name, program.summary(), because)
        elif self._built > MANY and (self._built == MANY + 1 or self._built % self.max_programs == 0):
            kept = f"; only the {self.max_programs} used last are kept" if self._built >= self.max_programs else ""
            advice = "Every signature is a program of its own: pad to fewer shapes, or pass what changes as an array"
            get_logger().info("%s, %.2f s%s. %s%s", name, program.build_seconds, because, advice, kept)
        if debug.level() >= 4:
            debug.emit(program.sources())


@dataclass
class _Built:
    program: Program
    traced: Traced
    last_call: int = 0


def _variables(state: Any) -> dict[str, Variable]:
    return collect_variables(state) if state is not None else {}


def _modes(state: Any) -> Iterator[Any]:
    if isinstance(state, dict):
        state = list(cast("dict[Any, Any]", state).values())
    if isinstance(state, (list, tuple)):
        for owner in cast("Sequence[Any]", state):
            yield from _modes(owner)
    elif hasattr(state, "modes"):
        yield from state.modes()


def compile(step: Callable[..., Any], state: Any = None, max_programs: int = 64, device: str | None = None) -> Compiled:
    """A function equal to `step` that is traced once for each signature, optimised, and replayed from a flat
    list of launches.

    Arguments are trees; Tensors and NumPy arrays in them are inputs, everything else (it must be hashable) is
    static: a new value means a new program. The `max_programs` used last are kept; the log tells when there are more
    than 12, and what the newest differs in. `state` lists the owners of the Variables that `step` reads or
    writes: Variables, Modules, optimizers, generators, caches, lists or dicts of these; they are read at the
    first call of each signature. A module's `training` and a parameter's `frozen` are part of the signature (an
    owner tells them by `modes()`). The results are fresh tensors. Gradients are taken inside `step`
    (`value_and_grad`); the compiled function itself is not on the tape. Programs are made for the device on which the
    Variables of `state` lie (without any, the arguments), or for `device`: so `lower` can plan for a GPU without one.

    Raises UsageError unless max_programs ≥ 1, TraceError where the function reads a tensor's content, captures a
    tensor from outside, or writes a Variable that is not in `state`.
    """
    if max_programs < 1:
        raise UsageError(f"compile: max_programs: expected at least 1, got {max_programs}")
    return Compiled(step, state, max_programs, device)
