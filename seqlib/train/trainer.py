"""The training loop: plan, step, log, evaluate, save; stopped by its end, a callback or a signal."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.core.rng import Generator
from seqlib.data.batch import Batch, PackedBatch
from seqlib.data.epochs import Planned
from seqlib.data.plan import Plan
from seqlib.data.prefetch import Prefetch
from seqlib.train import checkpoint, snapshot
from seqlib.train.advice import default_epochs
from seqlib.train.callback import Callback
from seqlib.train.config import RunConfig
from seqlib.train.memory import explained
from seqlib.train.progress import Clock, Due, End, Position
from seqlib.train.rate import Rate
from seqlib.train.runlog import RunLog
from seqlib.train.setup import build_model, make_epochs, place
from seqlib.train.signals import stop_on_signals
from seqlib.train.step import step_of
from seqlib.train.tasks import task_of
from seqlib.train.window import Window
from seqlib.util.log import get_logger
from seqlib.util.progress import progress


class Trainer:
    """One run of a `config` over the prepared data of its `problem`: `fit` trains from `position` to the end.

    `folder` is the run folder (None: nothing is written). `stop_training` and `chosen_step` (the step whose weights
    the model gets; -1: those with the best dev score) may be set by callbacks. `last` is the last step's (loss sum,
    target tokens, gradient norm); `scores` are those of the evaluation after step `evaluated` (-1: none
    yet); `baselines` are the scores of cheap models on dev; `start` is as
    in `train.run.train`; `saved` is the step of the last checkpoint (-1: none).
    """

    def __init__(
        self,
        config: RunConfig,
        problem: Any,
        data: Any,
        folder: Path | None = None,
        callbacks: Sequence[Callback] = (),
        start: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        self.config = config
        self.problem = problem
        self.data = data
        self.folder = folder
        self.callbacks = list(callbacks)
        self.stop_training = False
        self.chosen_step = -1
        self.position = Position()
        self.generator = Generator(config.seed)
        self.model, self.model_config = build_model(config, data.spec, self.generator)
        self.started = start(self.model, config, data) if start is not None else {}
        self.optimizer, self.precision = place(config, self.model, self.generator)
        self.task = task_of(data.spec.task)
        self.task.placed(self.model, config)
        self.device = self.optimizer.lr.device
        self.step = step_of(config, self.model, self.optimizer, self.generator)
        self.epochs = make_epochs(config, data, tell=True)
        self.plan: Plan = self.epochs.plan(0)
        self.end = End(config, default_epochs(len(self.epochs.store), config.pretrained) * len(self.plan.batches))
        self.rate = Rate(config, self.model_config, self.end)
        self.scorer = self.task.scorer(self.model, problem, data, config, self.model_config.max_length)
        self.log = RunLog(folder / "log.jsonl" if folder else None)
        self.window = Window(self.where_not_finite)
        self.evaluated = -1
        self.scores: dict[str, float] = {}
        self.baselines: dict[str, dict[str, Any]] = {}
        self.last: tuple[Any, Any, Any]
        self.saved = -1
        self._finish = ""
        self._due: Sequence[Due] = ()
        self._printed = 0  # programs

    # The loop

    def finish(self, reason: str) -> None:
        """End the run after this step as at its planned end; `reason` is logged. For callbacks."""
        self._finish = reason

    def _ended(self) -> bool:
        return bool(self._finish) or self.end.reached(self.position.step, self.position.seconds)

    def fit(self) -> str:
        """Train from the position to the end; returns "" there, else what stopped the run (a signal, "callback").

        A stopped run has saved a checkpoint. Raises SeqlibError when losses stay without a finite value: nothing is
        saved then, the earlier checkpoints stand.
        """
        at, clock = self.position, Clock(self.position.seconds)
        evaluate, save = self._due = (
            Due(self.config.eval_every, "eval_every", at.seconds),
            Due(self.config.save_every, "save_every", at.seconds),
        )
        stopped = ""
        self.model.train()
        self._tell("on_train_begin")
        total = self.end.steps or None
        made = self.epochs.batches(self.data.spec, self.plan, at.epoch, at.batch)
        with stop_on_signals() as request, progress(total, "training", done=at.step) as bar, Prefetch(made) as batches:
            while not self._ended() and not stopped:
                self._one(self._next(batches), clock)
                bar.advance(1)
                if at.step % self.config.log_every == 0:
                    self._print(clock)
                if evaluate.now(at.step, clock.seconds()):
                    evaluate.run(self.evaluate)
                if save.now(at.step, clock.seconds()) and self.saved != at.step:
                    save.run(self.save)
                at.seconds = clock.seconds()
                stopped = request.name or ("callback" if self.stop_training else "")
            if self._ended():
                stopped = ""
                if self._finish:
                    get_logger().info("finished after step %s: %s", f"{at.step:,}", self._finish)
                self._print(clock)
                self.evaluate()
            at.seconds = clock.seconds()
            self.save()
        self._tell("on_train_end")
        return stopped

    def _next(self, batches: Prefetch[Planned]) -> list[Batch | PackedBatch]:
        """The micro-batches of the next step; moves the position behind it, however many are made already."""
        epoch, place, self.plan, parts = next(batches)
        at = self.position
        at.epoch, at.batch = epoch, place + 1
        if place == 0:
            self._tell("on_epoch_begin", epoch)
        return parts

    def _one(self, batches: list[Batch | PackedBatch], clock: Clock) -> None:
        """One step, counted and timed; a step that built a program is logged."""
        at, began = self.position, time.perf_counter()
        rate = self.rate(at.step + 1, self.end.fraction(at.step, at.seconds))
        for callback in self.callbacks:
            rate = callback.learning_rate(self, at.step + 1, rate)
        self.optimizer.lr.assign(np.float32(rate))
        self._batches, self._drawn = batches, self.generator.state.detach()
        known = len(self.step.built)  # a forecast may have built some before
        try:
            total, weight, norm = self.last = self.step(batches)
        except MemoryError as error:
            raise explained(error, batches, self.config) from error
        took = time.perf_counter() - began - sum(program.build_seconds for program, _ in self.step.built[known:])
        at.step += 1
        tokens = sum(batch.tokens() for batch in batches)
        at.target_tokens += tokens
        at.seconds = clock.seconds()
        self._print_programs()
        padded = sum(batch.places() for batch in batches)
        self.window.add(total, weight, norm, tokens, padded, took, rate)
        self._tell("on_train_batch_end", at.step)

    def where_not_finite(self) -> str:
        """The first tensor of the last step that was not finite, with its op, layer and line: the step is taken once
        more, watched, and undone.
        """
        now = self.generator.state.numpy()
        self.generator.state.assign(self._drawn)
        try:
            found = self.step.find_non_finite(self._batches)
        finally:
            self.generator.state.assign(now)
        return f"first {found}" if found else "taken again, it is finite"

    def _print_programs(self) -> None:
        """Log the programs that were built since the last call."""
        for program, sizes in self.step.built[self._printed :]:
            self._printed += 1
            self.log.program(self.position.step, self._printed, program, sizes)

    def _print(self, clock: Clock) -> None:
        if not self.window.steps:
            return
        skipped = self.window.skipped(self.position.step)
        if skipped:
            get_logger().warning("%d updates were skipped: their loss or gradient was not finite", skipped)
        values = self.window.close(self.position.step)
        at = (self.position.step, clock.seconds(), values["seconds_per_step"], self._due)
        last = ("~" if self.end.limit else "") + f"{self.end.expected(*at):,}"
        self.log.train(self.position.step, values, last, self.end.remaining(*at))
        self._tell("on_log", self.position.step, values)

    def evaluate(self) -> dict[str, float]:
        """The scores on dev, logged and compared with the best, which is then saved. {} when there is no dev split."""
        at = self.position
        if not self.scorer.available:
            return {}
        if self.evaluated == at.step:
            return self.scores
        began = time.perf_counter()
        with self.optimizer.averaged():
            scores = self.scores = self.scorer.dev()
        self.evaluated = at.step
        seconds = time.perf_counter() - began
        self.log.write("dev", at.step, seconds=seconds, **scores)
        text = "  ".join(f"dev {name} {value:.4g}" for name, value in scores.items())
        better = at.best_step < 0 or self.scorer.rank(scores) > at.best_score
        get_logger().info("step %s  %s  (%.1f s)%s", f"{at.step:,}", text, seconds, "  best so far" if better else "")
        if better:
            at.best_step, at.best_score = at.step, self.scorer.rank(scores)
        self._tell("on_test_end", scores)  # before the checkpoint, which holds the callbacks' state
        if better or any(at.step in callback.kept_steps() for callback in self.callbacks):
            self.save()
        return scores

    # Checkpoints

    @property
    def checkpoints(self) -> Path | None:
        """The folder of checkpoints; None when nothing is written."""
        return self.folder / "checkpoints" if self.folder else None

    def save(self) -> None:
        """Write a checkpoint of this step, then delete those that are no longer kept."""
        at, folder = self.position, self.checkpoints
        if folder is None or at.step in (0, self.saved):
            return
        if self.window.check(at.step):
            get_logger().warning("step %d has no checkpoint: its loss or gradient is not finite", at.step)
            return
        checkpoint.save(
            folder,
            at.step,
            self.model.state_dict(copy=False),
            {**self.optimizer.state_dict(copy=False), **snapshot.carried(self.model)},
            snapshot.take(self),
        )
        self.saved = at.step
        keep = max(self.config.keep_last, self.config.average)
        pinned = set().union({at.best_step}, *(callback.kept_steps() for callback in self.callbacks))
        checkpoint.prune(folder, keep, pinned)
        self._tell("on_save_end", at.step)

    def _tell(self, moment: str, *values: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *values)
