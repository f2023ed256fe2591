"""What `mpaudit profile` adds to a training step of a timed run, in microseconds.

    python benchmarks/hook_cost.py [--processes N] [--batches N]

The smallest training there is (one linear layer of four weights, SGD, one thread) makes batches of 16 steps in one
process, in turn as it is and with everything in place that a timed fp32 run has: step, backward and forward hooks, the
clock, the loss that is kept, the progress file, the bound. Each turn is compared with the turns without hooks before
and after it, by the fastest batch of each in CPU time of the thread; the cost is the median of these differences, as a
machine may be a tenth faster for a second or two.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from time import thread_time_ns

ROOT = Path(__file__).resolve().parents[1]
STEPS, TURNS = 16, 40
LIMIT_US = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(*measure(options.batches))
        return 0
    costs = []
    for number in range(options.processes):
        command = [sys.executable, __file__, "--inside", "--batches", str(options.batches)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        bare, cost = map(float, done.stdout.split())
        costs.append(cost)
        print(f"process {number + 1}: {bare:.1f} µs per step bare, the hooks {cost:.1f} µs")
    import torch

    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}")
    print(f"the hooks cost {min(costs):.1f} to {max(costs):.1f} µs per step; the limit is {LIMIT_US:g} µs")
    return 0 if max(costs) < LIMIT_US else 1


def measure(batches: int) -> tuple[float, float]:
    """Microseconds of a bare step and of the hooks, medians over the turns."""
    import torch

    model = torch.nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(4, 2)

    def batch() -> float:
        begin = thread_time_ns()
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(inputs).pow(2).mean().backward()
            optimizer.step()
        return (thread_time_ns() - begin) / STEPS / 1000

    def fastest() -> float:
        batch()
        return min(batch() for _ in range(batches))

    bare, costs = [fastest()], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS):
            with hooks(folder):
                hooked = fastest()
            bare.append(fastest())
            costs.append(hooked - fmean(bare[-2:]))
    return median(bare), median(costs)


@contextmanager
def hooks(folder: str) -> Iterator[None]:
    """What a child of a timed fp32 run puts in place right after the import of torch; taken out again."""
    from torch.optim import optimizer

    from mpaudit.runtime.child import training
    from mpaudit.runtime.child.patches import Patches
    from mpaudit.runtime.protocol import ChildPlan, Target

    target, endless = Target("script", "train.py"), 10**12
    plan = ChildPlan("fp32-1", "timing", "fp32", target, "cpu", 1, endless, 0, "clean", False, folder)
    patches = Patches()
    begun = training.begin(plan, patches, lambda: None)
    try:
        yield
    finally:
        os.close(begun.progress)
        patches.undo()
        optimizer._global_optimizer_pre_hooks.clear()
        optimizer._global_optimizer_post_hooks.clear()


if __name__ == "__main__":
    raise SystemExit(main())
