"""Where the time of some training steps goes: a table, and a trace to look at."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile, schedule

log = logging.getLogger(__name__)

# Steps that are slower than others, steps whose record is thrown away, and steps that are shown.
_WAIT, _WARMUP, _ACTIVE = 2, 1, 4
_ROWS = 40


class Profile(pl.Callback):
    """Record some steps with PyTorch's profiler, in the first process.

    In table and trace ``step`` is what happens to a batch, ``loading`` the wait for it. Lightning's
    own profiler counts steps of training and validation as one and tells of the last ones only.

    Args:
        folder: gets ``table.txt`` and ``trace.json.gz``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._profile: profile | None = None
        self._part: record_function | None = None
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        if trainer.is_global_zero:
            cuda = pl_module.device.type == "cuda"
            self._profile = profile(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])],
                schedule=schedule(wait=_WAIT, warmup=_WARMUP, active=_ACTIVE, repeat=1),
                on_trace_ready=self._write,
                acc_events=True,
            )
            self._profile.start()

    def on_train_batch_start(self, *_: Any) -> None:
        """Tell the step from the wait before it."""
        self._enter("step")

    def on_train_batch_end(self, *_: Any) -> None:
        """Count the step."""
        if self._profile is not None:
            self._leave()
            self._steps += 1
            self._profile.step()
            self._enter("loading")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where it is."""
        if self._profile is None:
            return
        self._leave()
        self._profile.stop()
        self._profile = None
        if (self.folder / "table.txt").is_file():
            told = "profile: %s is a table, and https://ui.perfetto.dev opens %s beside it"
            log.info(told, self.folder / "table.txt", "trace.json.gz")
        else:
            log.warning(
                "profile: the training was over before step %d, from which on steps are recorded; "
                "lower data.batch_size or raise trainer.max_epochs",
                _WAIT + _WARMUP + 1,
            )

    def _enter(self, part: str) -> None:
        if self._profile is not None:
            self._leave()
            self._part = record_function(part)
            self._part.__enter__()

    def _leave(self) -> None:
        if self._part is not None:
            self._part.__exit__(None, None, None)
            self._part = None

    def _write(self, found: profile) -> None:
        if self._steps <= _WAIT + _WARMUP:
            return
        device = "device" if torch.cuda.is_available() else "cpu"
        self.folder.mkdir(parents=True, exist_ok=True)
        table = found.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=_ROWS)
        (self.folder / "table.txt").write_text(table)
        found.export_chrome_trace(str(self.folder / "trace.json.gz"))
