"""The learning rate of a step, for runs whose end is a step and for runs whose end is a time."""

from typing import Any

from seqlib.optim.schedule import Schedule
from seqlib.train.config import RunConfig
from seqlib.train.progress import End


class Rate:
    """The configuration's schedule, fitted to the run's end.

    With a time limit the last step is not known: it is taken to be step / fraction, the fraction of the time that has
    passed, so factors that decay to the end reach it when the time does. Such rates follow the clock and repeat only
    as closely as it does; everything else about a timed run is a function of its seed. Of a pretrained model's run
    whose length was not given, at most a tenth is warm-up.
    """

    def __init__(self, config: RunConfig, model_config: Any, end: End) -> None:
        optim, own = config.optim, config.pretrained and not config.train_steps and end.steps
        self._end = end
        self._schedule = Schedule(
            optim.schedule,
            lr=optim.lr,
            warmup=min(optim.warmup, end.steps // 10) if own else optim.warmup,
            hidden_size=getattr(model_config, "d_model", None),
            train_steps=end.steps or None,
        )

    def __call__(self, step: int, fraction: float) -> float:
        """The rate of `step` (from 1), which starts when `fraction` of the run has passed."""
        if not self._end.limit:
            return self._schedule(step)
        return self._schedule(step, max(step, round(step / max(fraction, 1e-6))))
