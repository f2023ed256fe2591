"""Scripts in processes of their own, forked from one that has imported torch: the import costs seconds, a fork none."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]

SERVER = """
import json, os, sys, tempfile, traceback
import torch, torch.profiler, torch.utils.flop_counter
torch.set_num_threads(1)
# the first optimizer imports torch._dynamo, which takes as long as torch itself
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
def serve(source, path):
    script = os.path.join(tempfile.mkdtemp(), path)
    with open(script, "w") as file: file.write(source)
    sys.argv, sys.path[0] = [script], os.path.dirname(script)
    space = {"__name__": "__main__", "__file__": script}
    exec(compile(source, script, "exec"), space)
for line in sys.stdin:
    request = json.loads(line)
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    child = os.fork()
    if child == 0:
        os.dup2(out.fileno(), 1); os.dup2(err.fileno(), 2)
        code = 0
        try:
            serve(request["source"], request["path"])
        except BaseException:
            traceback.print_exc(); code = 1
        sys.stdout.flush(); sys.stderr.flush(); os._exit(code)
    _, status = os.waitpid(child, 0)
    out.seek(0); err.seek(0)
    answer = {"code": os.waitstatus_to_exitcode(status), "stdout": out.read(), "stderr": err.read()}
    print(json.dumps(answer), flush=True)
"""


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def run(source: str, path: str = "script.py") -> Done:
    """Runs `source` as a file of this name, in a fresh process with torch imported and one thread."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps({"source": source, "path": path}) + "\n")
    server.stdin.flush()
    return Done(**json.loads(server.stdout.readline()))


@functools.lru_cache(maxsize=1)
def _server() -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(server.kill)
    return server
