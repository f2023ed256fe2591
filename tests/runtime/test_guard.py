"""A script that saves, rotates and deletes leaves the user's tree as it was, and reads back what it wrote."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.runtime.child.test_overlay import tree
from tests.runtime.launching import LOOP, launch

SAVES = (
    LOOP
    + """
import csv, glob, json, logging, os, pathlib, pickle, shutil, sqlite3, tempfile, zipfile
import numpy, pandas, safetensors.torch

out = pathlib.Path("out")
shutil.rmtree(out)                      # the results of the user's last run
out.mkdir()
os.makedirs("runs/exp1", exist_ok=True)
logging.basicConfig(filename="train.log", level=logging.INFO)
base = sqlite3.connect("study.db")
base.execute("insert into trials values (2)")
base.commit()

def save(i):
    torch.save({"model": model.state_dict(), "step": i}, out / f"ckpt{i}.pt")
    with open(out / "last.pt", "wb") as file:
        torch.save(model.state_dict(), file)
    os.replace(out / "last.pt", "best.pt")
    for old in sorted(glob.glob("out/ckpt*.pt"))[:-2]:
        os.remove(old)
    safetensors.torch.save_file(model.state_dict(), "model.safetensors")
    torch.jit.script(model).save("model.jit")
    numpy.save("curve.npy", numpy.arange(i + 1))
    numpy.savetxt("curve.txt", numpy.arange(i + 1))
    numpy.arange(3.0).tofile("raw.bin")
    pandas.DataFrame({"step": [i]}).to_csv("log.csv", index=False)
    pathlib.Path("notes.md").write_text(f"step {i}")
    pathlib.Path("old.bin").unlink(missing_ok=True)
    with open("train.csv", "a", newline="") as file:
        csv.writer(file).writerow([i])
    with zipfile.ZipFile("pack.zip", "w") as pack:
        pack.write("notes.md")
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        json.dump({"step": i}, file)
    shutil.move(file.name, "state.json")
    shutil.copy("notes.md", "runs/exp1")
    logging.info("step %d", i)
    with open("config.json", "r+") as file:
        config = json.load(file)
        config["step"] = i
        file.seek(0)
        json.dump(config, file)
    os.truncate("blob.bin", i)
    os.chmod("keep.sh", 0o700)

for i in range(40):
    step()
    if i < 4:
        save(i)
    else:
        continue
    assert sorted(os.listdir("out")) == [f"ckpt{k}.pt" for k in range(max(0, i - 1), i + 1)], os.listdir("out")
    assert torch.load(out / f"ckpt{i}.pt")["step"] == i
    assert torch.load("best.pt")["weight"].equal(model.weight)
    assert safetensors.torch.load_file("model.safetensors")["weight"].equal(model.weight)
    assert torch.jit.load("model.jit").weight.equal(model.weight)
    assert len(numpy.load("curve.npy")) == len(numpy.loadtxt("curve.txt", ndmin=1)) == i + 1
    assert numpy.fromfile("raw.bin").tolist() == [0, 1, 2]
    assert pandas.read_csv("log.csv").step.tolist() == [i]
    assert pathlib.Path("runs/exp1/notes.md").read_text() == f"step {i}"
    assert not os.path.exists("old.bin")
    assert open("train.csv").read().split() == ["head", *map(str, range(i + 1))]
    assert zipfile.ZipFile("pack.zip").namelist() == ["notes.md"]
    assert json.load(open("state.json")) == {"step": i}
    assert json.load(open("config.json"))["step"] == i
    assert os.path.getsize("blob.bin") == i
    assert open("train.log").read().endswith(f"step {i}\\n")
    assert base.execute("select count(*) from trials").fetchone() == (2,)
    print("saved", i)
"""
)


def user_tree(home: Path) -> None:
    (home / "out").mkdir(parents=True)
    for name in ("out/ckpt7.pt", "out/best.pt", "best.pt", "model.safetensors", "old.bin", "keep.sh"):
        (home / name).write_bytes(b"the user's own")
    (home / "blob.bin").write_bytes(b"12345678")
    (home / "config.json").write_text('{"step": 9}        ')
    (home / "train.csv").write_text("head\n")
    base = sqlite3.connect(home / "study.db")
    base.execute("create table trials (x)")
    base.execute("insert into trials values (1)")
    base.commit()
    base.close()


def test_a_tree_is_the_same_after_a_script_that_saves_rotates_and_deletes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    user_tree(home)
    (home / "train.py").write_text(SAVES)
    before = tree(tmp_path / "home")
    record = launch(home, SAVES)
    assert record.outcome == "bounded", record.stderr
    assert record.stdout.split() == ["saved", "0", "saved", "1", "saved", "2", "saved", "3"], record.stderr
    assert tree(home) == before
    assert record.result is not None
    seen = {place.what for place in record.result.redirected}
    assert {"move to best.pt", "write model.safetensors", "delete old.bin", "write study.db"} <= seen
    assert {Path(place.path).name for place in record.result.redirected} == {"train.py"}
    assert {"sys.addaudithook", "builtins.open"} <= set(record.result.patched)


TRICKS = """
import io, os, posix, subprocess, sys
def refused(function):
    try:
        function()
    except OSError as error:
        print(type(error).__name__)
    else:
        print("done")
refused(lambda: io.FileIO("mine.txt", "w"))
refused(lambda: posix.unlink("mine.txt"))
refused(lambda: posix.open("mine.txt", os.O_WRONLY | os.O_TRUNC))
refused(lambda: posix.rename("mine.txt", "other.txt"))
refused(lambda: posix.mkdir("folder"))
print(subprocess.run(["rm", "-f", "mine.txt"], stderr=subprocess.DEVNULL).returncode)
print(subprocess.run([sys.executable, "-c", "open('mine.txt', 'w').write('theirs'); print(open('mine.txt').read())"],
                     capture_output=True, text=True).stdout.strip())
print(open("mine.txt").read())
"""


def test_what_slips_past_is_refused(tmp_path: Path) -> None:
    """By the audit hook; and by Landlock what other programs do."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_text("mine")
    before = tree(home)
    record = launch(home, TRICKS)
    (home / "train.py").unlink()
    lines = record.stdout.splitlines()
    assert lines[:5] == ["PermissionError"] * 5, record.stderr
    assert lines[6:] == ["theirs", "theirs"]
    assert record.result is not None
    if "landlock" in record.result.patched:
        assert lines[5] == "1"
        assert tree(home) == before
    assert {place.what for place in record.result.redirected} >= {"refused mine.txt", "refused folder"}


def test_writes_that_are_allowed_are_made(tmp_path: Path) -> None:
    record = launch(
        tmp_path / "home",
        """
        import os, shutil, sys
        open("new.txt", "w").write("new")
        print(os.environ.get("WANDB_MODE"), open.__module__)
        shutil.rmtree(os.getcwd())
        """,
        allow_writes=True,
    )
    assert not (tmp_path / "home").exists()
    assert record.outcome == "no-steps", record.stderr


def test_a_script_that_deletes_its_folder_keeps_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    record = launch(
        home, "import os, shutil; shutil.rmtree(os.path.dirname(__file__)); print(os.path.exists(__file__))"
    )
    assert record.stdout == "False\n", record.stderr
    assert (home / "train.py").exists()
    assert record.outcome == "no-steps"


def test_caches_of_libraries_are_kept_as_they_were_and_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "me").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    record = launch(
        tmp_path / "home",
        """
        import os
        me = os.path.expanduser("~")
        for folder in (".cache/matplotlib", ".config/matplotlib", ".triton/cache", ".config/mine"):
            os.makedirs(f"{me}/{folder}")
        os.makedirs(os.environ["NUMBA_CACHE_DIR"])
        os.mkdir("__pycache__")
        names = ".cache/matplotlib/fontlist.json", ".config/matplotlib/matplotlibrc", ".config/mine/settings"
        for name in (*(f"{me}/{name}" for name in names), "__pycache__/net.nbi", "mine.txt"):
            open(name, "w").write("new")
        """,
    )
    assert record.result is not None, record.stderr
    assert {place.what.replace(f"{tmp_path}/", "") for place in record.result.redirected} == {
        "make the folder me/.config/mine",
        "write me/.config/mine/settings",
        "write mine.txt",
    }
    assert not any((tmp_path / "me").iterdir()) and os.listdir(tmp_path / "home") == ["train.py"]


TRACKERS = {
    "wandb/__init__.py": "def init(project=None, mode=None, dir=None): print('wandb', mode, dir)",
    "mlflow/__init__.py": "def set_tracking_uri(uri): print('mlflow', uri)\ndef set_registry_uri(uri): pass",
    "comet_ml/__init__.py": "class Experiment:\n    def __init__(self, key, disabled=False): print('comet', disabled)",
    "tensorboardX/__init__.py": "from .event_file_writer import EventFileWriter",
    "tensorboardX/event_file_writer.py": (
        "class EventFileWriter:\n    def __init__(self, logdir, size=1): print('tensorboard', logdir)"
    ),
}


def test_trackers_stay_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for in code too. The packages here are stand-ins with the signatures of the real ones."""
    for name, text in TRACKERS.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"), prepend=os.pathsep)
    record = launch(
        tmp_path / "home",
        """
        import comet_ml, mlflow, os, tensorboardX, wandb
        wandb.init(project="mine", mode="online")
        mlflow.set_tracking_uri("https://tracking.example.com")
        comet_ml.Experiment("key")
        tensorboardX.EventFileWriter("runs/exp")
        print(os.environ["NEPTUNE_MODE"], os.environ["CLEARML_OFFLINE_MODE"], os.environ["MLFLOW_ALLOW_FILE_STORE"])
        """,
    )
    place = tmp_path / "run" / "trackers"
    assert record.stdout.splitlines() == [
        f"wandb offline {place}",
        f"mlflow file:{place}/mlruns",
        "comet True",
        f"tensorboard {place}/tensorboard{tmp_path}/home/runs/exp",
        "offline 1 true",
    ], record.stderr
