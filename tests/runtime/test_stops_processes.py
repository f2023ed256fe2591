"""Trainings with processes of their own are stopped too, and the figures are those of the process that trained."""

from __future__ import annotations

from pathlib import Path

from mpaudit.runtime.protocol import Target
from tests.runtime.launching import LOOP, launch


def test_workers_of_a_data_loader_end_with_the_training(tmp_path: Path) -> None:
    """Forked, and spawned persistent ones, which unpickle a class of `__main__`."""
    record = launch(
        tmp_path / "home",
        LOOP
        + """
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, i):
        return torch.full((4,), float(i))

def train(**how):
    for x in torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=1, **how):
        optimizer.zero_grad()
        (model(x).sum() * 0 + 1).backward()
        optimizer.step()
        yield

if __name__ == "__main__":
    import atexit
    atexit.register(print, "handlers run")
    forked = train(multiprocessing_context="fork")
    for _ in range(3):
        next(forked)
    for _ in train(multiprocessing_context="spawn", persistent_workers=True):
        pass
""",
    )
    assert record.sentence == "made its 5 steps", record.stderr
    assert record.result is not None and record.result.losses == (1.0,) * 5
    assert record.result.children >= 2
    assert record.stdout == "handlers run\n"
    assert "Traceback" not in record.stderr


def test_a_training_that_is_spawned(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        LOOP
        + """
import torch.multiprocessing as mp
def main(rank, steps):
    try:
        for i in range(steps):
            step()
    finally:
        print("cleaned up", rank)
if __name__ == "__main__":
    mp.spawn(main, args=(40,), nprocs=1)
    print("joined")
""",
    )
    assert record.sentence == "made its 5 steps", record.stderr
    assert record.stdout.split("\n")[:2] == ["cleaned up 0", "joined"]
    assert record.result is not None and len(record.result.step_ms) == 3
    assert record.result.notes == ("the training ran in a process that the script started",)


def test_a_training_that_torchrun_starts(tmp_path: Path) -> None:
    """Two processes of a distributed training on a CPU, both stopped after the same step: neither waits for the other
    in a collective, and torchrun sees two workers that ended well."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "train.py").write_text(
        """
import os
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
try:
    for i in range(40):
        optimizer.zero_grad()
        loss = (model(torch.randn(8, 4)).sum() * 0 + 1 + dist.get_rank())
        loss.backward()
        optimizer.step()
finally:
    os.write(1, f"ended {dist.get_rank()}\\n".encode())  # in one piece: both write to one pipe
"""
    )
    arguments = ("--standalone", "--nproc-per-node", "2", "train.py")
    record = launch(home, target=Target("module", "torch.distributed.run", arguments))
    assert record.sentence == "made its 5 steps", record.stderr
    assert sorted(record.stdout.split("\n"))[-2:] == ["ended 0", "ended 1"]
    assert record.result is not None and record.result.rank == 0 and record.result.losses == (1.0,) * 5
    assert len(record.result.step_ms) == 3 and record.result.children == 2
    assert record.result.notes == (
        "the training ran in 2 processes that the script started; the figures are those of one of them (rank 0)",
    )


def test_a_training_that_is_a_program_of_its_own(tmp_path: Path) -> None:
    """Two, one after the other; the first makes fewer steps than were planned."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "worker.py").write_text(LOOP + "\nimport sys\nfor i in range(int(sys.argv[1])): step()")
    record = launch(
        home,
        """
        import subprocess, sys
        for steps in ("2", "40"):
            subprocess.run([sys.executable, "worker.py", steps], check=True)
        """,
    )
    assert record.sentence == "made its 5 steps", record.stderr
    assert record.result is not None and record.result.ending == "bounded" and record.result.steps == 5


def test_a_loop_that_goes_on_after_the_bound_is_ended(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        LOOP
        + """
import time
try:
    while True:
        step()
finally:
    time.sleep(600)
""",
        grace_s=1,
    )
    assert record.outcome == "bounded"
    assert record.sentence == "made its 5 steps; it did not end after them and was ended"
    assert record.result is not None and len(record.result.step_ms) == 3


def test_a_hard_stop_runs_no_finally(tmp_path: Path) -> None:
    (tmp_path / "home" / "trainer").mkdir(parents=True)
    (tmp_path / "home" / "trainer" / "__main__.py").write_text(
        LOOP
        + """
class Odd(torch.nn.Module):
    def forward(self, x):
        return x.nothing
try:
    try:
        Odd()(model.weight)
    except AttributeError:
        import traceback; traceback.print_exc()
    while True:
        print("step", step().item())
finally:
    print("finally")
"""
    )
    record = launch(tmp_path / "home", target=Target("module", "trainer"), stop="hard")
    assert record.outcome == "bounded", record.stderr
    assert [line.split()[0] for line in record.stdout.splitlines()] == ["step"] * 4


def test_an_exception_in_a_forward_is_told_without_our_frames(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        LOOP
        + """
class Odd(torch.nn.Module):
    def forward(self, x):
        return x.nothing
step()
Odd()(model.weight)
""",
    )
    assert record.outcome == "exception"
    assert record.sentence.startswith("raised AttributeError: ") and ":14 after 1 of 5 steps" in record.sentence
    assert "mpaudit" not in record.stderr
    assert record.result is not None and record.result.error is not None
    assert "mpaudit" not in record.result.error.traceback
    assert record.result.steps == 1


def test_a_training_that_is_told_to_end_keeps_its_steps(tmp_path: Path) -> None:
    """As the parent tells it at its time limit."""
    record = launch(
        tmp_path / "home",
        LOOP
        + """
import os, signal, time
for _ in range(4):
    step()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(600)
""",
    )
    assert record.result is not None and record.result.ending == "time-limit", record.stderr
    assert (record.result.steps, len(record.result.step_ms)) == (4, 2)


def test_a_disk_that_is_full_during_the_training(tmp_path: Path) -> None:
    """The sentence is about the result, and no exception is raised in the script's own steps."""
    record = launch(
        tmp_path / "home",
        LOOP
        + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
for i in range(40):
    print(i, flush=True)
    step()
""",
    )
    assert record.outcome == "disk-full", record.stderr
    assert record.sentence == "mpaudit could not write the run's result: result.json: File too large"
    assert record.stdout.split() == ["0", "1", "2", "3", "4"]
    assert "Traceback" not in record.stderr
