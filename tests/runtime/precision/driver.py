"""Runs twins in this process, each several times: a line of JSON on stdin is `[SCRIPT, [HAND:VARIANT, ...]]`, a line of
JSON on stdout its answer by those words.

HAND is how the twin's author wrote it (none, bf16, fp16), VARIANT what mpaudit makes of it, or `off`; behind a `+` the
fields of the plan that are true.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import msgspec
import torch

from mpaudit.runtime.child import events as sources
from mpaudit.runtime.child.patches import Patches
from mpaudit.runtime.child.precision.control import install
from mpaudit.runtime.protocol import ChildPlan, Target

TWINS = Path(__file__).parent.parent / "twins"


PLAN = {
    "run": "test",
    "kind": "timing",
    "device": "cpu",
    "warmup": 0,
    "steps": 1,
    "seed": 0,
    "stop": "clean",
    "allow_writes": True,
    "folder": "",
}


def run(script: str, word: str) -> dict:
    hand, variant, *fields = word.replace("+", ":").split(":")
    os.environ["BY_HAND"] = hand
    sys.modules.pop("by_hand", None)
    controller, patches, names = None, Patches(), []
    if variant != "off":
        target, true = Target("script", script), dict.fromkeys(fields, True)
        plan = ChildPlan(variant=variant, target=target, **PLAN, **true)
        events = sources.Events()
        sources.install(events, patches)
        controller = install(plan, events, patches)
        names = patches.names
    answer = {}
    try:
        runpy.run_path(script, run_name="__main__")
        with open(os.environ["BY_HAND_RESULT"]) as file:
            answer = json.load(file)
    except Exception:
        answer["error"] = traceback.format_exc()
    finally:
        answer |= {"control": msgspec.to_builtins(controller and controller.report()), "patched": names}
        patches.undo()
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
    answer["left"] = [torch.is_autocast_enabled("cpu"), torch.overrides._get_current_function_mode_stack() != []]
    return answer


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, str(TWINS))
    # what a script prints is not an answer
    answers, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BY_HAND_RESULT"] = os.path.join(folder, "result.json")
        for line in sys.stdin:
            script, words = json.loads(line)
            print(json.dumps({word: run(script, word) for word in words}), file=answers, flush=True)
