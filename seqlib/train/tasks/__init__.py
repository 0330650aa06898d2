"""From the name of a task to what is particular about it: the file of that name here, and the `TASK` in it."""

import importlib
import pkgutil

from seqlib.train.tasks.base import Task
from seqlib.util.errors import unknown

__all__ = ["Task", "task_of"]


def task_of(name: str) -> Task:
    """The task that a problem, a spec or a model names. Raises UsageError for one that this version does not have."""
    known = [info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"]
    if name not in known:
        raise unknown("task", name, known)
    return importlib.import_module(f"{__name__}.{name}").TASK
