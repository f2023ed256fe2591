"""The report of runs: what it says, in which order, how wide, and what it makes of hostile text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.audit import Audit, from_json, to_json
from mpaudit.measured import Ceiling, Comparison, Evidence, LeftOut, OpTable, OpTotals
from mpaudit.render import REPORT_FORMATS, report
from mpaudit.render.profile import verdict
from mpaudit.runtime import protocol
from mpaudit.runtime.compare import document
from mpaudit.runtime.hardware import Hardware
from mpaudit.runtime.launch import RunRecord
from mpaudit.runtime.plan import Options, plan
from mpaudit.runtime.protocol import ChildPlan, Control, Memory, ScriptError, Target, Variant
from mpaudit.runtime.session import Done, Session
from tests.runtime.fakes import MB, dead, record

CEILINGS = (
    Ceiling("matmul", "512×512×512", "fp32", 0.10),
    Ceiling("matmul", "1024×1024×1024", "fp32", 0.101),
    Ceiling("matmul", "1024×1024×1024", "amp-bf16", 0.22),
    Ceiling("convolution", "8×64×56×56", "fp32", 2.0),
    Ceiling("convolution", "8×64×56×56", "amp-bf16", 3.8),
)


def place(line: int, what: str, path: str = "/p/engine.py") -> protocol.Place:
    return protocol.Place(path, line, what)


def usual(run: ChildPlan) -> RunRecord:
    fp32 = run.variant == "fp32"
    jitter = 1 + 0.02 * (sum(map(ord, run.run)) % 3)
    step = (16.3 if fp32 else 10.0) * jitter
    return record(
        run,
        [step] * 20,
        losses=[2.0 + (0.002 if not fp32 else 1e-7 * run.perturb)] * 25,
        memory=Memory(resident=(400 if fp32 else 304) * MB),
        control=Control(
            "neutralised" if fp32 else "overridden", (place(12, "torch.autocast"),), moved=int(run.perturb)
        ),
        patched=("torch.save", "torch.autograd.backward"),
        redirected=(place(30, "writes best.pt"),),
        unseeded=(place(4, "numpy.random.default_rng() without a seed", "/p/data.py"),),
        notes=("compiled code was seen",),
    )


def audited(answer: Any = usual, variants: tuple[Variant, ...] = ("fp32", "amp-bf16"), rounds: int = 3) -> Audit:
    options = Options(Target("script", "train.py", ("--name", "a b")), "cpu", "/out", rounds=rounds)
    runs = plan(options, variants)
    session = Session(options, len(runs), [Done(run, answer(run.plan)) for run in runs])
    hardware = Hardware("2.13.0", "cpu", "a CPU", 2, ceilings=CEILINGS)
    return document(session, hardware, (LeftOut("amp-fp16", "too slow"),), budget_s=None, cwd=Path("/p"))


def shown(audit: Audit, form: str = "table", width: int = 100, colour: bool = False) -> str:
    return report(audit, form, lines=_no_lines, width=width, colour=colour)


def _no_lines(path: str) -> Sequence[str]:
    return ()


def test_the_verdicts_come_first() -> None:
    rows = shown(audited(), width=200).splitlines()
    assert rows[0] == "train.py --name 'a b' · cpu (a CPU) · torch 2.13.0"
    assert re.fullmatch(
        r"amp-bf16  1\.6\d× faster than fp32 \[1\.\d\d, 1\.\d\d\], peak resident memory −24 %, "
        r"losses differ by 0\.1 % on average",
        rows[1],
    )
    assert rows[2] == "amp-fp16  left out: too slow"


def test_what_it_rests_on() -> None:
    text = shown(audited(), width=120)
    headings = re.findall(r"^\n(\w[^\n]*)$", text, re.MULTILINE)
    assert headings == [
        "Steps",
        "At best on this device",
        "Losses",
        "Precision",
        "Kept away from your files",
        "Not reached by the seed",
        "Notes",
        "Runs",
    ]
    assert re.search(r"^  amp-bf16 +220 GFLOP/s +2\.18× +3\.8 TFLOP/s +1\.90× +1\.6\d×$", text, re.MULTILINE)
    assert re.search(r"^  amp-bf16 – fp32 +0\.1 % +5e-06 % +less than one rounding to bf16$", text, re.MULTILINE)
    assert "fp32       the script's own autocast and scaler were switched off: engine.py:12  torch.autocast" in text
    assert "engine.py:30  writes best.pt" in text
    assert "data.py:4  numpy.random.default_rng() without a seed" in text
    assert "mpaudit replaced 2 functions" in text
    assert len(re.findall(r"made its 25 steps", text)) == 7


def compared(**changes: Any) -> str:
    usual = Comparison("fp32", "amp-bf16", 5, 1.63, (1.51, 1.76), "faster", 0.76, 1e-4, 1e-3, "within the noise floor")
    return verdict(msgspec.structs.replace(usual, **changes), "cuda")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "1.63× faster than fp32 [1.51, 1.76], peak memory −24 %, losses agree within the noise floor"),
        (
            {"speedup": 0.5, "interval": (0.4, 0.625), "verdict": "slower", "memory_ratio": 1.5},
            "2.00× slower than fp32 [1.60, 2.50], peak memory +50 %, losses agree within the noise floor",
        ),
        (
            {"speedup": 1.04, "interval": (0.97, 1.12), "verdict": "no measurable difference", "memory_ratio": 1.001},
            "no measurable difference in speed from fp32 (speedup 1.04 [0.97, 1.12]), peak memory the same, "
            "losses agree within the noise floor",
        ),
        (
            {
                "rounds": 1,
                "interval": None,
                "verdict": "too few runs",
                "memory_ratio": None,
                "loss_verdict": "unknown",
                "loss_deviation": None,
            },
            "1.63× faster than fp32 in 1 round: too few for an interval, which takes 3",
        ),
        (
            {"rounds": 2, "speedup": 0.5, "interval": None, "verdict": "too few runs", "memory_ratio": None},
            "2.00× slower than fp32 in 2 rounds: too few for an interval, which takes 3, "
            "losses agree within the noise floor",
        ),
        (
            {"rounds": 1, "speedup": 0.9998, "interval": None, "verdict": "too few runs", "memory_ratio": None},
            "as fast as fp32 in 1 round: too few for an interval, which takes 3, losses agree within the noise floor",
        ),
        (
            {"speedup": None, "interval": None, "memory_ratio": None, "loss_verdict": "not finite"},
            "not measured in the same round as fp32, the loss becomes infinite or NaN",
        ),
        (
            {"loss_verdict": "beyond rounding", "loss_deviation": 0.12, "memory_ratio": None},
            "1.63× faster than fp32 [1.51, 1.76], losses differ by 12 %, more than one rounding does",
        ),
        (
            {"loss_verdict": "beyond rounding", "loss_deviation": 1.31, "noise_floor": 1.04, "memory_ratio": None},
            "1.63× faster than fp32 [1.51, 1.76], losses differ by 131 %, those of fp32 runs by 104 %",
        ),
    ],
)
def test_verdicts(changes: dict[str, Any], says: str) -> None:
    assert compared(**changes) == says


def test_a_data_bound_script_is_told() -> None:
    def slow(run: ChildPlan) -> RunRecord:
        return record(run, [10.0] * 20, outside_ms=[8.0, None, None, None] * 5)

    text = " ".join(shown(audited(slow)).split())
    assert "fp32, amp-bf16 80 % of a step lies outside of forward, backward and optimizer" in text
    assert text.count("lies outside") == 1
    assert "a step would be 1.2× faster." in text
    assert "lies outside" not in shown(audited())


def test_a_script_that_fails() -> None:
    audit = audited(dead)
    text = shown(audit)
    assert "nothing could be measured" in text
    assert "fp32, amp-bf16  not measured: ended with exit code 2 after 0 of 25 steps" in text
    assert text.count("  | usage: train.py\n") == 1
    for heading in ("Steps", "At best on this device", "Precision"):
        assert heading not in text


def test_a_traceback_is_shown_once() -> None:
    error = ScriptError("ValueError", "bad", "/p/train.py", 3, 'Traceback\n  File "train.py", line 3\nValueError: bad')

    def fails(run: ChildPlan) -> RunRecord:
        return record(run, [], outcome="exception", sentence="raised ValueError: bad at /p/train.py:3", error=error)

    text = shown(audited(fails))
    assert text.count("  | ValueError: bad\n") == 1
    assert "raised ValueError: bad at train.py:3" in text


def test_unfaithful_places_name_their_precisions() -> None:
    def half(run: ChildPlan) -> RunRecord:
        return record(run, control=Control("as-is", unfaithful=(place(41, "model.half()"),)))

    text = shown(audited(half))
    assert "engine.py:41  model.half() (fp32, amp-bf16)" in text
    assert "; not faithfully in this precision: see below" in " ".join(text.split())
    assert "faithfully" not in shown(audited())


def test_a_precision_in_which_nothing_was_computed_is_not_praised() -> None:
    def double(run: ChildPlan) -> RunRecord:
        name = "fp32" if run.variant == "fp32" else "bf16"
        nothing = f"nothing was computed in {name}: the model's weights are float64"
        return record(run, control=Control("as-is", unfaithful=(protocol.Place("", 0, nothing),), nothing=nothing))

    text = shown(audited(double), width=200)
    assert text.splitlines()[1:3] == [
        "fp32  nothing was computed in fp32: the model's weights are float64; it is not compared",
        "amp-bf16  nothing was computed in bf16: the model's weights are float64; it is not compared",
    ]
    assert "nothing was computed in bf16: the model's weights are float64 (amp-bf16)" in text
    assert not re.search("agree|[Ll]osses|speedup|faster|slower", text)


def test_its_ops_have_no_table_either() -> None:
    def double(run: ChildPlan) -> RunRecord:
        nothing = "nothing was computed in bf16: the model's weights are float64" * (run.variant != "fp32")
        return record(run, control=Control("as-is", nothing=nothing))

    tables = (OpTable("line", "fp32", "amp-bf16", ()),)
    totals = (OpTotals("fp32", 2, 10, 14.0, 0.98, 20.0),)
    for answer, headings in ((usual, 1), (double, 0)):
        evidence = Evidence(totals, tables, (), (), ())
        text = shown(msgspec.structs.replace(audited(answer), evidence=evidence))
        assert text.count("Ops by line: amp-bf16 beside fp32") == headings
        assert "fp32: ops sum up to 14 ms" in text


def test_without_fp32_there_is_no_noise_floor() -> None:
    text = " ".join(shown(audited(variants=("tf32", "amp-bf16"))).split())
    assert "fp32 did not run, so that there is no noise floor." in text


def test_where_no_weight_could_be_moved_repeats_alone_are_the_floor() -> None:
    def unmoved(run: ChildPlan) -> RunRecord:
        return record(run, control=Control("as-is"))

    text = " ".join(shown(audited(unmoved)).split())
    assert "between fp32 runs, repeated alone: there is no optimizer whose parameters could be moved." in text
    assert "faithfully" not in text


def test_long_lists_are_cut_in_the_table_only() -> None:
    def many(run: ChildPlan) -> RunRecord:
        return record(run, redirected=tuple(place(line, "writes") for line in range(1, 41)))

    audit = audited(many)
    assert shown(audit).count("  writes") == 10 and "and 30 more, in the JSON" in shown(audit)
    assert len(from_json(shown(audit, "json")).runs[0].redirected) == 40


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_fits_the_terminal(width: int) -> None:
    rows = shown(audited(variants=("fp32", "tf32", "amp-bf16", "amp-fp16")), width=width).splitlines()
    assert max(map(len, rows)) <= width


def kept(audit: Audit, *left_out: str) -> Audit:
    """Without these runs, as a budget cuts them."""
    options = Options(Target("script", "train.py"), "cpu", "/out", rounds=3)
    runs = [run for run in plan(options, ("fp32", "amp-bf16")) if run.plan.run not in left_out]
    session = Session(options, 7, [Done(run, usual(run.plan)) for run in runs])
    return document(session, Hardware("2.13.0", "cpu", "a CPU", 2), (), budget_s=9.0, cwd=Path("/p"))


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        (
            (),
            "Noise floor: the same between fp32 runs, repeated and from parameters moved by one unit in the last place",
        ),
        (("fp32-perturbed",), "Noise floor: the same between fp32 runs, repeated."),
        (
            ("fp32-2", "fp32-3"),
            "Noise floor: the same between fp32 runs, one from parameters moved by one unit in the last place.",
        ),
        (("fp32-2", "fp32-3", "fp32-perturbed"), "fp32 ran once, so that there is no noise floor."),
    ],
)
def test_the_noise_floor_is_called_what_it_is(left_out: tuple[str, ...], says: str) -> None:
    assert says in " ".join(shown(kept(audited(), *left_out)).split())


def test_an_evidence_run_is_no_repetition() -> None:
    alone = kept(audited(), "fp32-2", "fp32-3", "fp32-perturbed")
    (fp32,) = (run for run in alone.runs if run.run == "fp32-1")
    probed = msgspec.structs.replace(fp32, run="fp32-evidence-1", kind="evidence")
    text = shown(msgspec.structs.replace(alone, runs=(*alone.runs, probed)))
    assert "fp32 ran once, so that there is no noise floor." in " ".join(text.split())


def test_rounds_are_those_that_were_made_and_noise_is_shown_from_three_on() -> None:
    whole = " ".join(shown(audited()).split())
    assert " 3 rounds, neighbours in time" in whole and "Noise: identical" in whole
    short = " ".join(shown(kept(audited(), "fp32-3", "amp-bf16-3")).split())
    assert " 2 of 3 rounds, neighbours in time" in short
    assert "Noise: identical" not in short and "steps/s speedup outside" in short


def test_of_one_precision_nothing_is_compared() -> None:
    """No column without an entry, and no ceiling of what was not run."""
    audit = audited(variants=("fp32",))
    text = shown(audit)
    assert re.search(r"^  precision +ms/step +steps/s +noise +outside +peak memory$", text, re.MULTILINE)
    assert re.search(r"^  precision +matmul +convolution$", text, re.MULTILINE)
    assert re.search(r"^  fp32 +101 GFLOP/s +2 TFLOP/s$", text, re.MULTILINE)
    assert "bf16" not in text and "×" not in text and "speedup" not in text
    failed = shown(audited(lambda run: usual(run) if run.variant == "fp32" else dead(run)))
    assert "220 GFLOP/s" not in failed and "speedup" not in failed


def test_runs_that_differ_much_are_told() -> None:
    def unsteady(run: ChildPlan) -> RunRecord:
        return record(run, [10.0 * (1 + run.run.endswith("-2"))] * 20)

    text = " ".join(shown(audited(unsteady)).split())
    assert "fp32 its runs took from 10 to 20 ms per step" in text and "amp-bf16 its runs took" in text
    assert "its runs took" not in shown(audited())
    assert "A quiet machine, fewer threads (OMP_NUM_THREADS=1, or the cores that are idle) and more --runs" in text

    def on_one(run: ChildPlan) -> RunRecord:
        return record(run, [10.0 * (1 + run.run.endswith("-2"))] * 20, environment={"threads": 1})

    assert "A quiet machine and more --runs make" in " ".join(shown(audited(on_one)).split())


def test_the_steps_that_were_measured_are_told() -> None:
    def ended_early(run: ChildPlan, bf16: int = 6) -> RunRecord:
        return record(run, [10.0] * (6 if run.variant == "fp32" else bf16), outcome="completed")

    assert "each with 5 warm-up and 20 measured steps; a run counts by its median step" in (
        " ".join(shown(audited()).split())
    )
    assert "each with 5 warm-up and 6 measured steps (20 were planned);" in (
        " ".join(shown(audited(ended_early)).split())
    )
    assert "and 6 to 7 measured steps (20 were planned);" in (
        " ".join(shown(audited(lambda run: ended_early(run, 7))).split())
    )


def test_losses_without_a_noise_floor_are_not_judged() -> None:
    audit = audited(lambda run: usual(run) if run.run.endswith("-1") else dead(run), rounds=2)
    text = " ".join(shown(audit, width=200).split())
    assert "losses differ by 0.1 %, with no noise floor beside" in text
    assert "0.1 % not judged: there is no noise floor" in text and "rounding" not in text


def test_no_column_for_what_is_outside_where_nothing_is_known_of_it() -> None:
    text = shown(audited(lambda run: record(run, outside_ms=())))
    assert "utside" not in text


def test_steps_that_are_backward_passes_are_called_so() -> None:
    says = "A step is a backward pass here"
    assert says not in shown(audited())
    assert says in shown(audited(lambda run: record(run, counted="backward")))


def test_many_steps_in_a_second() -> None:
    def quick(run: ChildPlan) -> RunRecord:
        return record(run, [0.36] * 20)

    text = shown(audited(quick))
    assert "2,778" in text and "e+03" not in text


@pytest.mark.parametrize("width", range(60, 121))
def test_a_per_cent_sign_stays_with_its_number(width: int) -> None:
    rows = shown(audited(), width=width).splitlines()
    assert not [row for row in rows if row.strip().startswith("%")]


def test_colour_changes_nothing_else() -> None:
    audit = audited()
    coloured = shown(audit, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(audit)


def test_markdown() -> None:
    text = shown(audited(), "markdown")
    assert re.search(r"^\*\*amp-bf16\*\* 1\.6\d× faster than fp32 \\\[1\.\d\d, 1\.\d\d\\\], peak", text, re.MULTILINE)
    assert "\n## Steps\n\n| precision | ms/step |" in text
    assert "\n| :-- | --: |" in text
    assert "- engine.py:30  writes best.pt\n" in text


@given(st.text(max_size=40))
def test_hostile_text(text: str) -> None:
    """No text of the user reaches the terminal as more than text, nor breaks a table or the document."""

    def hostile(run: ChildPlan) -> RunRecord:
        error = ScriptError(text, text, text, 1, text)
        told = place(1, text, text)
        return record(
            run, control=Control("injected", (told,), (told,)), redirected=(told,), notes=(text,), stderr=text,
            error=error, outcome="exception", sentence=text,
        )  # fmt: skip

    audit = audited(hostile, rounds=1)
    assert from_json(to_json(audit)) == audit
    for form in REPORT_FORMATS:
        assert all(line.isprintable() for line in shown(audit, form).split("\n")), form
    markdown = shown(audit, "markdown")
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in markdown.splitlines() if row.startswith("| fp32-"))


def test_an_audit_without_runs_has_no_such_report() -> None:
    assert shown(msgspec.structs.replace(audited(), profile=None, runs=(), comparisons=())) == ""
