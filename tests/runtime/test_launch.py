"""A script is launched as Python would, watched, and nothing of it is left. These scripts do not import torch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy
import pytest

from mpaudit.cli.signals import as_interrupts
from mpaudit.runtime.launch import TAIL
from mpaudit.runtime.protocol import Target
from tests.runtime.launching import heeds_interrupts, launch


def lines(text: str) -> list[str]:
    return text.splitlines()


def alive(process: int) -> bool:
    """Running, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_script_sees_what_python_gives_it(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        """
        import multiprocessing, os, pickle, sys
        class Own:
            pass
        def square(x):
            return x * x
        if __name__ == "__main__":
            print(sys.argv, sys.path[0] == os.getcwd(), __file__ == os.path.abspath("train.py"), "torch" in sys.modules)
            print(type(pickle.loads(pickle.dumps(Own()))) is Own)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [3]))
        """,
        target=Target("script", "train.py", ("--lr", "0.1")),
    )
    assert lines(record.stdout) == ["['train.py', '--lr', '0.1'] True True False", "True", "[9]"], record.stderr
    assert record.outcome == "no-steps"
    assert record.sentence.startswith("ended without a step of an optimizer and without a backward pass; it started")


def test_a_module_is_run_as_by_m(tmp_path: Path) -> None:
    package = tmp_path / "home" / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "names.py").write_text("NAME = 'mine'")
    (package / "main.py").write_text("import sys; from .names import NAME; print(NAME, __name__, sys.argv[1:])")
    record = launch(tmp_path / "home", target=Target("module", "trainer.main", ("x",)))
    assert lines(record.stdout) == ["mine __main__ ['x']"], record.stderr


def test_a_notebook_is_run_without_its_magics(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!pip install x\n", "import sys\n", "x = 1\n", "x?"]},
        {"cell_type": "code", "source": "%%bash\nexit 1"},
        {"cell_type": "code", "source": "%%time\nprint(x, sys.argv, __name__, '__file__' in globals())"},
        {"cell_type": "code", "source": "def f():\n    return {}['gone']\nf()"},
    ]
    home = tmp_path / "home"
    home.mkdir()
    (home / "train.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    record = launch(home, target=Target("notebook", "train.ipynb", ("a",)))
    assert lines(record.stdout) == ["1 ['train.ipynb', 'a'] __main__ False"], record.stderr
    assert record.outcome == "exception"
    assert record.result is not None and record.result.error is not None
    assert record.result.error.path.endswith("train.ipynb[5]") and record.result.error.line == 2
    assert "<string>" not in record.result.error.traceback and "train.ipynb[5]" in record.result.error.traceback
    assert "return {}['gone']" in record.result.error.traceback
    assert "mpaudit" not in record.stderr


def test_the_users_own_sitecustomize_is_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import builtins; builtins.mine = 7")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    record = launch(tmp_path / "home", "import sitecustomize; print(mine, sitecustomize.__file__)")
    assert lines(record.stdout) == [f"7 {site / 'sitecustomize.py'}"], record.stderr


def test_what_is_drawn_is_seeded_and_what_no_seed_reaches_is_named(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        """
        import random
        import numpy
        print(random.random(), numpy.random.rand())
        random.seed()
        numpy.random.seed(None)
        numpy.random.default_rng()
        numpy.random.default_rng(3), random.seed(5), numpy.random.seed(seed=7)
        """,
    )
    wanted = random.Random(0).random(), numpy.random.RandomState(0).rand()
    assert tuple(map(float, record.stdout.split())) == wanted, record.stderr
    assert record.result is not None
    assert [(place.line, place.what) for place in record.result.unseeded] == [
        (5, "random.seed() without a seed"),
        (6, "numpy.random.seed() without a seed"),
        (7, "numpy.random.default_rng() without a seed"),
    ]


def test_what_a_library_draws_while_it_is_imported_is_not_the_scripts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    library = home / "site-packages" / "library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("import numpy\nnumpy.random.default_rng()\n")
    (home / "data.py").write_text("import numpy\nnumpy.random.default_rng()\n")
    record = launch(
        home, "import os, sys\nsys.path.append(os.path.abspath('site-packages'))\nimport library\nimport data\n"
    )
    assert record.result is not None
    assert [(Path(place.path).name, place.line) for place in record.result.unseeded] == [("data.py", 2)], record.stderr


def test_an_exit_code_is_told(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "import sys; print('bad option', file=sys.stderr); sys.exit(3)")
    assert (record.outcome, record.sentence) == ("exit", "ended with exit code 3 after 0 of 5 steps")
    assert record.result is not None and (record.result.ending, record.result.exit_status) == ("exit", 3)
    assert record.stderr == "bad option\n"


def test_an_exception_is_told_by_the_users_lines(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "import json\ndef load():\n    json.loads('{')\nload()\n")
    assert record.outcome == "exception"
    assert record.sentence.startswith("raised JSONDecodeError: ")
    assert record.sentence.endswith(f" at {tmp_path / 'home' / 'train.py'}:3 after 0 of 5 steps")
    assert "mpaudit" not in record.stderr and "load()" in record.stderr


def test_a_killed_child_is_told_by_its_signal(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (record.outcome, record.result) == ("killed", None)
    assert record.sentence.startswith("killed by signal 9 (SIGKILL) after 0 of 5 steps")


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        data = bytearray(1 << 31)
        """,
    )
    assert record.outcome == "out-of-memory"
    assert record.sentence.startswith(f"ran out of memory at {tmp_path / 'home' / 'train.py'}:4")


def test_a_full_disk_of_the_script(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "with open('/dev/full', 'w') as log:\n    log.write('x')\n")
    assert record.outcome == "disk-full", record.stderr
    assert record.sentence.startswith(f"the disk is full at {tmp_path / 'home' / 'train.py'}:1")


def test_a_result_that_cannot_be_written(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
    assert (record.outcome, record.result) == ("disk-full", None)
    assert record.sentence == "mpaudit could not write the run's result: result.json: File too large"


def test_megabytes_of_output_keep_their_end(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "for i in range(200_000): print(i, 'x' * 20)\nprint('end')")
    assert record.outcome == "no-steps"
    assert len(record.stdout) == TAIL and record.stdout.endswith("199999 " + "x" * 20 + "\nend\n")


def test_a_script_that_never_steps_is_cut(tmp_path: Path) -> None:
    record = launch(tmp_path / "home", "import time\nwhile True: time.sleep(0.1)", limit_s=3)
    assert record.outcome == "time-limit"
    assert record.sentence == "no optimizer step was seen in 3 s (time limit)"
    assert record.result is not None and record.result.ending == "time-limit"


def test_no_process_and_no_file_is_left(tmp_path: Path) -> None:
    """Neither one that was forked, nor a daemon with a session and streams of its own; nor what was written."""
    record = launch(
        tmp_path / "home",
        """
        import os, subprocess, sys, tempfile, time
        open("model.pt", "wb").write(bytes(1000))
        scratch = tempfile.mkdtemp()
        forked = os.fork()
        if not forked:
            time.sleep(600)
            os._exit(0)
        daemon = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        print(forked, daemon.pid, os.path.getsize("model.pt"), scratch)
        """,
    )
    *processes, size, scratch = record.stdout.split()
    assert (len(processes), size) == (2, "1000"), record.stderr
    assert not any(alive(int(process)) for process in processes)
    assert not Path(scratch).exists()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "train.py",
        "plan.json",
        "result.json",
        *(path.name for path in (tmp_path / "run" / "processes").iterdir()),
    }


def test_an_interrupted_parent_leaves_no_child(tmp_path: Path) -> None:
    home = tmp_path / "home"
    parent = f"""
        from pathlib import Path
        from tests.runtime.launching import launch
        launch(Path({str(home)!r}), "import os, time; print(os.getpid(), file=open({str(tmp_path / "pid")!r}, 'w'), "
            "flush=True); time.sleep(600)", allow_writes=True)
    """
    checkout = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(parent)], cwd=checkout, stderr=subprocess.PIPE, text=True,
        preexec_fn=heeds_interrupts,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert not alive(child)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_child_is_started_leaves_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **kwargs))
        signal.raise_signal(getattr(signal, name))
        return started[-1]

    monkeypatch.setattr("mpaudit.runtime.launch.subprocess.Popen", popen)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    try:
        with as_interrupts(), pytest.raises(KeyboardInterrupt):
            launch(tmp_path / "home", "import time; time.sleep(100)")
    finally:
        signal.signal(signal.SIGINT, before)
    [child] = started
    assert child.poll() is not None
