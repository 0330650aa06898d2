"""Module: a plain class whose parameters are found by walking attributes, lists, tuples and dicts.

The name of a parameter is its attribute path (``encoder.layers.0.attention.q_proj.weight``) and equals its name in a
saved model. A tied weight is the same object under several paths: it is listed once, under the first path in attribute
order; `load` takes its values under any of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Self, cast

import numpy as np

from seqlib.core import dtypes
from seqlib.core.graph import current_scope, scope
from seqlib.core.modes import note_mode_change
from seqlib.core.tensor import Parameter, Variable
from seqlib.util.errors import SeqlibError, nearest, unknown

_SHOWN = 10  # names of each kind that a load error lists


class _Watching(threading.local):
    tell: Callable[[Any, Any], None] | None = None


_watching = _Watching()


@contextlib.contextmanager
def watching_calls(tell: Callable[[Any, Any], None]) -> Iterator[None]:
    """A block in which `tell(module, result)` is called after every call of a module in this thread."""
    before, _watching.tell = _watching.tell, tell
    try:
        yield
    finally:
        _watching.tell = before


class Module:
    """Base of every layer and model. Subclasses set their parts in ``__init__`` and define ``forward``.

    Calling a module runs ``forward`` inside a scope of its attribute path, so errors and graph listings name the layer.
    `derived` names the attributes whose values follow from the constructor's arguments (a table of positions): they are
    state, but are neither saved nor loaded.
    """

    training: bool = True
    derived: tuple[str, ...] = ()
    multiplied: tuple[str, ...] = ()
    """Names of the parameters that `forward` reads by `as_dtype`, so that `compute_in` keeps copies of them."""
    half: bool = False
    """Whether all of a model can compute in 16 bits; its author says so."""
    compute: Any = None
    """The dtype that a model's first layers (embeddings) compute in; None: that of their weights. See `compute_in`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module | Variable) or (name == "training" and value != self.training):
            note_mode_change()
        object.__setattr__(self, name, value)
        _label(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.scope():
            result = self.forward(*args, **kwargs)
        if _watching.tell is not None:
            _watching.tell(self, result)
        return result

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """The block in which ops belong to this layer: graph listings and errors name it. `forward` runs in it."""
        with scope(self.__dict__.get("_scope_name", "")):
            try:
                yield
            except SeqlibError as error:
                if not getattr(error, "__notes__", None):  # the innermost layer speaks
                    error.add_note(f"in layer {current_scope() or 'at the top'} ({type(self).__name__})")
                raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation of the layer; defined by each subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    # ---- walking

    def _paths(self, prefix: str = "", derived: bool = False) -> Iterator[tuple[str, Variable]]:
        """Every (path, variable), tied ones under each of their paths; `derived` tables only when asked for."""
        for path, value in _members(self):
            if isinstance(value, Module):
                yield from value._paths(f"{prefix}{path}.", derived)
            elif derived or path.split(".")[0] not in self.derived:
                yield prefix + path, cast(Variable, value)

    def named_modules(self, prefix: str = "") -> dict[str, Module]:
        """This module under "" and all modules below under their paths; a shared one once, under its first path."""
        found: dict[str, Module] = {prefix: self}
        for path, value in _members(self):
            if isinstance(value, Module):
                for name, module in value.named_modules(f"{prefix}.{path}" if prefix else path).items():
                    if all(module is not other for other in found.values()):
                        found[name] = module
        return found

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters by attribute path, in attribute order; a tied weight once, under its first path."""
        return {name: p for name, p in _unique(self._paths()).items() if isinstance(p, Parameter)}

    def parameters(self) -> list[Parameter]:
        """All parameters, each once, in the order of `named_parameters`."""
        return list(self.named_parameters().values())

    def name_parameters(self) -> None:
        """Tell all parameters their names, for errors and listings: the last line of a model's `__init__`."""
        for name, parameter in self.named_parameters().items():
            parameter.name = name

    def trainable_parameters(self) -> dict[str, Parameter]:
        """`named_parameters` without the frozen ones."""
        return {name: p for name, p in self.named_parameters().items() if not p.frozen}

    def state_variables(self) -> dict[str, Variable]:
        """All that a compiled program may read or write in place: parameters, other variables, derived tables."""
        return _unique(self._paths(derived=True))

    def num_parameters(self, trainable_only: bool = False) -> int:
        """Number of scalar parameters, tied weights counted once."""
        found = self.trainable_parameters() if trainable_only else self.named_parameters()
        return sum(int(np.prod(p.shape)) for p in found.values())

    # ---- modes

    def train(self, mode: bool = True) -> Self:
        """Set `training` (which switches dropout) here and in every module below. Returns the module."""
        for module in self.named_modules().values():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def modes(self) -> tuple[Any, ...]:
        """What a compiled function is traced anew for: `training` of every module, `frozen` and compute copies of every
        parameter, and which variables these are (`replace` brings others)."""
        training = [(module.training, module.compute) for module in self.named_modules().values()]
        variables = self.state_variables().values()
        return (*training, *((id(v), *(v.modes() if isinstance(v, Parameter) else ())) for v in variables))

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """A block in which the module is in evaluation mode; every module's own mode comes back afterwards."""
        modes = [(module, module.training) for module in self.named_modules().values()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def to(self, device: str) -> Self:
        """Move all parameters, other variables and tables to a device ("cpu" or "cuda"), in place. Returns the module.

        Raises UsageError for another device, CudaMissing where there is no GPU.
        """
        for variable in self.state_variables().values():
            variable.to(device)
        return self

    def compute_in(self, dtype: Any) -> Self:
        """Compute in a dtype ("bfloat16", "float16") from the embeddings on: what is multiplied keeps a copy in it. The
        parameters themselves, norms' gains and statistics, weights' gradients and the loss stay as they are. Returns
        the module.

        Raises DtypeError for a dtype that is not a supported one.
        """
        for module in self.named_modules().values():
            module.compute = dtypes.canonical(dtype)
            for name in module.multiplied:
                if isinstance(parameter := getattr(module, name), Parameter):
                    parameter.keep_copy(dtype)
        note_mode_change()
        return self

    # ---- weights

    def state_dict(self, copy: bool = True) -> dict[str, np.ndarray]:
        """All saved values by path, each tied weight once under its first path; ``copy=False``: the storage itself."""
        found = _unique(self._paths())
        return {name: variable.numpy() if copy else variable.on_host() for name, variable in found.items()}

    def load(self, weights: Mapping[str, np.ndarray], strict: bool = True) -> None:
        """Copy `weights` (by path) into the module's parameters, in place; dtypes are cast to the parameter's.

        A tied weight may come under any of its paths; if it comes under several, the values must be equal. With
        ``strict=False`` missing and unexpected names are passed over, wrong shapes are not. Raises SeqlibError that
        lists missing, unexpected and mis-shaped names together; nothing is changed then.
        """
        paths = dict(self._paths())
        known = getattr(weights, "shapes", {})  # of a checkpoint, whose arrays are read when they are asked for
        unexpected = [name for name in weights if name not in paths]
        misshaped: list[str] = []
        chosen: dict[int, str] = {}
        for name, variable in paths.items():
            if name not in weights:
                continue
            got = tuple(known[name] if name in known else np.shape(weights[name]))
            if got != tuple(variable.shape):
                misshaped.append(f"{name}: expected {tuple(variable.shape)}, got {got}")
                continue
            first = chosen.setdefault(id(variable), name)
            if first != name and not np.array_equal(weights[first], weights[name]):
                misshaped.append(f"{name}: differs from {first}, to which this model ties it")
        missing = [name for name, variable in _unique(self._paths()).items() if not _given(variable, paths, weights)]
        problems = _list("wrong shape or value", misshaped)
        if strict:
            problems += _list("missing", missing) + _list("unexpected", _with_hints(unexpected, missing))
        if problems:
            raise SeqlibError(f"can't load these weights into {type(self).__name__}: " + "".join(problems))
        by_id = {id(variable): variable for variable in paths.values()}
        for key, name in chosen.items():
            variable = by_id[key]
            variable.assign(np.asarray(weights[name]).astype(variable.dtype, copy=False))

    def freeze(self, where: str | Callable[[str, Parameter], bool], frozen: bool = True) -> list[str]:
        """Exclude parameters from training (or bring them back with ``frozen=False``); returns their names.

        `where` is a glob over parameter names (``"encoder.*"``) or a predicate of (name, parameter). Raises
        UsageError when it matches nothing.
        """
        matches = where if callable(where) else lambda name, _: fnmatchcase(name, where)
        named = self.named_parameters()
        chosen = [name for name, parameter in named.items() if matches(name, parameter)]
        if not chosen:
            raise unknown("parameters", where if isinstance(where, str) else repr(where), named)
        for name in chosen:
            named[name].frozen = frozen
        return chosen

    def replace(self, path: str, module: Module) -> Module:
        """Put `module` at `path` (``"encoder.layers.0.feed_forward"``) and return what stood there.

        A module that is shared is replaced at this path only. Raises UsageError for a path that holds no module.
        """
        holder: Any = self
        *parents, last = path.split(".")
        try:
            for part in parents:
                holder = _child(holder, part)
            old = _child(holder, last)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise unknown("module", path, (name for name in self.named_modules() if name)) from None
        if not isinstance(old, Module) or isinstance(holder, tuple):
            raise unknown("module", path, (name for name in self.named_modules() if name))
        if isinstance(holder, list):
            cast("list[Any]", holder)[int(last)] = module
        elif isinstance(holder, dict):
            cast("dict[str, Any]", holder)[last] = module
        else:
            setattr(holder, last, module)
        note_mode_change()
        object.__setattr__(module, "_scope_name", old.__dict__.get("_scope_name", last))
        module.train(old.training)
        return old


def _members(module: Module) -> Iterator[tuple[str, Module | Variable]]:
    """(path, part) of the modules and variables held directly, or in lists, tuples and dicts, by a module."""
    for name, value in vars(module).items():
        yield from _parts(name, value)


def _parts(path: str, value: Any) -> Iterator[tuple[str, Module | Variable]]:
    if isinstance(value, Module | Variable):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(cast("list[Any]", value)):
            yield from _parts(f"{path}.{i}", item)
    elif isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():
            yield from _parts(f"{path}.{key}", item)


def _label(name: str, value: Any) -> None:
    """Tell modules under which name they were set, for scopes. A shared module keeps its first name."""
    for path, part in _parts(name, value):
        if isinstance(part, Module):
            part.__dict__.setdefault("_scope_name", path)


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, list | tuple):
        return cast("list[Any]", holder)[int(part)]
    return cast("dict[str, Any]", holder)[part] if isinstance(holder, dict) else getattr(holder, part)


def _unique(pairs: Iterator[tuple[str, Variable]]) -> dict[str, Variable]:
    """Name → variable, each variable once, under its first name."""
    seen: set[int] = set()
    found: dict[str, Variable] = {}
    for name, variable in pairs:
        if id(variable) not in seen:
            seen.add(id(variable))
            found[name] = variable
    return found


def _given(variable: Variable, paths: Mapping[str, Variable], weights: Mapping[str, Any]) -> bool:
    return any(other is variable and name in weights for name, other in paths.items())


def _with_hints(unexpected: list[str], missing: list[str]) -> list[str]:
    """Unexpected names, each with the missing name that it most resembles."""
    hints = [nearest(name, missing, 1) if missing and len(unexpected) <= _SHOWN else [] for name in unexpected]
    return [f"{name} (is it {hint[0]}?)" if hint else name for name, hint in zip(unexpected, hints, strict=True)]


def _list(title: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f"\n    … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"\n  {title} ({len(names)}):" + "".join(f"\n    {name}" for name in names[:_SHOWN]) + more
