"""A profiler's own trace of a few steps, without any other probe, as TensorBoard, Perfetto and Chrome open it.

Under a dispatch mode every op is recorded twice, so these steps are others than those of the ops probe. The trace lies
in a log directory with one folder for each variant: `tensorboard --logdir` with torch-tb-profiler shows each as a run.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

WARMUP = 1
"""Steps under the profiler before those that are kept: its first one holds its own start."""


@dataclass(slots=True)
class TraceProbe:
    """Traces `count` steps after `first` finished ones and `WARMUP` more."""

    folder: str
    first: int
    count: int
    profiler: Any = None
    done: bool = False

    def step_finished(self, finished: int) -> None:
        """To be called when the script has finished `finished` steps."""
        if self.profiler is not None:
            self.profiler.step()  # marks the step; writes the trace after the last
            if finished >= self.first + WARMUP + self.count:
                self.stop()
        elif finished == self.first and not self.done:
            self.start()

    def start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        os.makedirs(self.folder, exist_ok=True)
        self.profiler = profile(
            activities=activities,
            # steps are marked in the trace, as viewers want them, only where there is a schedule
            schedule=schedule(wait=0, warmup=WARMUP, active=self.count, repeat=1),
            on_trace_ready=self._keep,
            record_shapes=True,
        )
        self.profiler.start()

    def _keep(self, profiler: Any) -> None:
        # a name that torch-tb-profiler knows: HOST_PID.NANOSECONDS.pt.trace.json; packed by the parent, which has time
        name = f"{socket.gethostname()}_{os.getpid()}.{time.time_ns()}.pt.trace.json"
        profiler.export_chrome_trace(os.path.join(self.folder, name))

    def stop(self) -> None:
        """Ends the tracing, early too: the steps that were finished are written."""
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None
            self.done = True


def install(folder: str, first: int, count: int) -> TraceProbe:
    probe = TraceProbe(folder, first, count)
    if first == 0:
        probe.start()
    return probe
