"""The command line and the environment of a child."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mpaudit.runtime.protocol import ChildPlan

SITE = str(Path(__file__).parent / "child" / "site")
"""Put first on PYTHONPATH: Python imports its `sitecustomize` at the start of every process."""

RUN_VARIABLE = "MPAUDIT_RUN"
"""Holds the folder of the run, in every process of it."""


def command(plan: ChildPlan) -> list[str]:
    """What the user would type, with the interpreter that runs mpaudit."""
    target = plan.target
    if target.kind == "module":
        return [sys.executable, "-m", target.name, *target.arguments]
    if target.kind == "notebook":
        # as in Jupyter: no __file__, and the working directory is where modules are looked for
        start = "from mpaudit.runtime.child.notebook import run; run()"
        return [sys.executable, "-c", start, target.name, *target.arguments]
    return [sys.executable, target.name, *target.arguments]


def environment(plan: ChildPlan, scratch: str) -> dict[str, str]:
    """The user's environment, with what leads into the run. `scratch` becomes the folder for temporary files."""
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [SITE, env.get("PYTHONPATH")]))
    env[RUN_VARIABLE] = plan.folder
    env["TMPDIR"] = scratch
    # the order of sets of strings would differ from run to run
    env.setdefault("PYTHONHASHSEED", str(plan.seed % 2**32))
    if plan.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
