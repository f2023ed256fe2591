"""What the probes of an evidence run cost, as ratios of CPU time, and how fast a large trace is read back.

    python benchmarks/evidence_cost.py [--repeats N] [--megabytes N]

A transformer whose step takes about 200 ms on one thread trains as an evidence run of fp32 and under the emulation of
CUDA's float16 autocast. The script notes the CPU time of the process after each of its steps; the steps of each probe
are known from the layout of an evidence run, and are set against steps of the same process without a probe. As these
lie a second apart, and a neighbour on the machine may come between, the median of some repeats decides. Then a trace of
the evidence run is repeated to the size asked for and read back in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from time import process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpaudit.runtime import launch, traces  # noqa: E402
from mpaudit.runtime.evidence import EVIDENCE_STEPS, EVIDENCE_WARMUP, TRACE_FOLDER, layout  # noqa: E402
from mpaudit.runtime.protocol import ChildPlan, Target, Variant  # noqa: E402

STEPS = EVIDENCE_STEPS + 10
"""Ten lie between the trace and the last gradients, with no probe at work: what the others are compared with."""

PASS_LIMIT, EMULATION_LIMIT, READ_LIMIT_S, READ_LIMIT_GB = 1.5, 2.0, 20.0, 2.0

SCRIPT = """
import sys, time
import torch
from torch import nn
torch.set_num_threads(1)
layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
model = nn.Sequential(nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(256, 64))
optimizer = torch.optim.AdamW(model.parameters())
inputs, labels = torch.randn(4, 128, 256), torch.randint(0, 64, (4 * 128,))
with open(sys.argv[1], "w") as times:
    for step in range(200):
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(time.process_time(), file=times, flush=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=100, help="of the trace that is read back")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(*read(Path(options.read)))
        return 0
    import torch

    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}")
    with tempfile.TemporaryDirectory() as home:
        repeats = []
        for number in range(options.repeats):
            (place := Path(home) / str(number)).mkdir()
            repeats.append(costs(place))
        whole, emulated = (median(ratios) for ratios in zip(*repeats, strict=True))
        print(f"the evidence pass: {whole:.2f} times a step, median of {len(repeats)}; the limit is {PASS_LIMIT:g}")
        print(f"emulated float16: {emulated:.2f} times an fp32 step, median; the limit is {EMULATION_LIMIT:g}")
        ok = whole <= PASS_LIMIT and emulated <= EMULATION_LIMIT
        trace = next((place / "evidence" / TRACE_FOLDER / "fp32").iterdir())
        large = Path(home) / "large.json"
        repeat(trace, large, options.megabytes * 2**20)
        command = [sys.executable, __file__, "--read", str(large)]
        seconds, gigabytes, events = map(float, subprocess.run(command, capture_output=True, check=True).stdout.split())
        size = large.stat().st_size / 2**20
    print(
        f"a trace of {size:.0f} MB, {events:.0f} events, is read back in {seconds:.1f} s of CPU time and "
        f"{gigabytes:.2f} GB; the limits are {READ_LIMIT_S:g} s and {READ_LIMIT_GB:g} GB"
    )
    return 0 if ok and seconds < READ_LIMIT_S and gigabytes < READ_LIMIT_GB else 1


def costs(home: Path) -> tuple[float, float]:
    """Runs both and prints their ratios: of the evidence pass to a step, on average, and of the fastest steps of the
    emulation and of fp32."""
    when = layout(EVIDENCE_WARMUP, STEPS)
    seen = step_times(home, "evidence")
    groups = {
        "gradients": sorted(when.gradients),
        "memory": [when.memory],
        "ops": range(when.ops, when.ops + when.ops_steps),
        "trace": range(when.trace, when.trace + 1 + when.trace_steps),
    }
    probed = {step for steps in groups.values() for step in steps if step < len(seen)}
    free = [cost for step, cost in enumerate(seen) if step > EVIDENCE_WARMUP and step not in probed]
    bare = median(free)
    print(f"a step without a probe takes {1000 * bare:.0f} ms of CPU time, in the same process")
    for name, steps in groups.items():
        print(f"  {name}: {fmean(seen[step] for step in steps if step in probed) / bare:.2f} times that")
    whole = fmean(seen[step] for step in probed) / bare
    print(f"  all of them: {whole:.2f} times that")
    emulated = step_times(home, "emulated", "amp-fp16", emulate=True)[EVIDENCE_WARMUP:]
    ratio = min(emulated) / min(free)
    print(f"  emulated float16: {ratio:.2f} times an fp32 step, fastest of each")
    return whole, ratio


def step_times(home: Path, name: str, variant: Variant = "fp32", emulate: bool = False) -> list[float]:
    """Seconds of CPU time of each step, the last left out: in it the run ends."""
    (home / "train.py").write_text(SCRIPT)
    times = home / f"{name}.txt"
    plan = ChildPlan(
        run=name,
        kind="evidence",
        variant=variant,
        target=Target("script", "train.py", (str(times),)),
        device="cpu",
        warmup=EVIDENCE_WARMUP,
        steps=STEPS,
        seed=0,
        stop="clean",
        allow_writes=True,
        folder=str(home / name),
        emulate=emulate,
    )
    record = launch.run(plan, time_limit_s=600, cwd=str(home))
    assert record.outcome == "bounded", (record.sentence, record.stderr)
    marks = [float(line) for line in times.read_text().split()]
    # the first step has no mark before it
    return [float("nan"), *(after - before for before, after in pairwise(marks))]


def repeat(trace: Path, to: Path, size: int) -> None:
    """The events of a trace over and over, each time later, until the file has `size` bytes."""
    events = json.loads(trace.read_bytes())["traceEvents"]
    timed = [event for event in events if event.get("ph") == "X"]
    start = min(event["ts"] for event in timed)
    length = max(event["ts"] + event["dur"] for event in timed) - start
    with open(to, "w") as file:
        file.write('{"schemaVersion": 1, "traceEvents": [\n')
        turn = 0
        while file.tell() < size:
            for event in timed:
                file.write(json.dumps(event | {"ts": event["ts"] + turn * length}) + ",\n")
            turn += 1
        file.write(json.dumps(timed[0]) + "]}\n")


def read(path: Path) -> tuple[float, float, int]:
    """Seconds of CPU time, peak gigabytes, events."""
    begin = process_time()
    events = traces.read(path)
    traces.operators(events)
    traces.kernels(events)
    seconds = process_time() - begin
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, len(events)


if __name__ == "__main__":
    sys.exit(main())
