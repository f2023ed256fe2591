"""A plan carried out, on a machine that is made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpaudit.runtime.launch import RunRecord
from mpaudit.runtime.plan import Options
from mpaudit.runtime.protocol import ChildPlan, Control, Target
from mpaudit.runtime.session import Changed, Ended, Estimated, Event, Session, Started, Stepped, carry_out
from tests.runtime.fakes import Clock, dead, machine, record

OPTIONS = Options(Target("script", "train.py"), "cpu", "/out", warmup=5, steps=20, rounds=2)
PLAN = ["fp32-1", "amp-bf16-1", "amp-bf16-2", "fp32-2", "fp32-perturbed"]


def carried(
    answer: Callable[[ChildPlan], RunRecord] = record, options: Options = OPTIONS, **settings: Any
) -> tuple[list[str], Session, list[Event]]:
    clock, events = Clock(), list[Event]()
    asked, run = machine(clock, answer)
    settings = {"time_limit_s": 600.0, "watch": events.append} | settings
    session = carry_out(options, ("fp32", "amp-bf16"), run=run, clock=clock, **settings)
    return asked, session, events


def test_the_whole_plan() -> None:
    asked, session, events = carried()
    assert asked == PLAN
    assert [done.planned.plan.run for done in session.done] == PLAN
    assert session.planned_runs == 5 and not session.notes and not session.interrupted
    kinds = [type(event) for event in events]
    assert kinds == [Started, Stepped, Ended, Estimated, *[Started, Stepped, Ended] * 4]
    assert [event for event in events if isinstance(event, Estimated)] == [Estimated(20.0, 5)]
    assert [event.left_s for event in events if isinstance(event, Started)] == [None, 16, 12, 8, 4]
    assert [event.left_s for event in events if isinstance(event, Ended)] == [16, 12, 8, 4, 0]
    assert [(event.number, event.total) for event in events if isinstance(event, Started)][-1] == (5, 5)
    assert Stepped(1, 25) in events


def test_what_is_known_of_a_variant_is_used() -> None:
    _, _, events = carried(lambda plan: record(plan, wall_s=10.0 if plan.variant == "fp32" else 1.0))
    # after fp32 took 10 s and amp-bf16 1 s, there remain one amp-bf16 and two fp32
    assert [event.left_s for event in events if isinstance(event, Ended)][:2] == [40, 21]


def test_a_budget_cuts_and_says_so() -> None:
    asked, session, events = carried(budget_s=11.0)
    assert asked == PLAN[:2]
    assert session.notes == ["the budget of 11 s leaves no time for 3 runs of the plan"]
    assert Changed(session.notes[0]) in events
    assert [event for event in events if isinstance(event, Estimated)] == [Estimated(8.0, 2)]


def test_cuts_add_up_to_one_note() -> None:
    """fp32 takes 4 s, amp-bf16 then 12: what is left is cut again."""
    _, session, events = carried(
        lambda plan: record(plan, wall_s=12.0 if plan.variant == "amp-bf16" else 4.0),
        Options(OPTIONS.target, "cpu", "/out", rounds=5),
        budget_s=38.0,
    )
    said = [event.note for event in events if isinstance(event, Changed)]
    assert len(session.done) + 6 == session.planned_runs == 11
    assert said[-1] == "the budget of 38 s leaves no time for 6 runs of the plan"
    assert len(said) == 2 and session.notes == said[-1:]


def test_the_outcome_comes_before_what_follows_from_it() -> None:
    _, _, events = carried(dead)
    first = next(number for number, event in enumerate(events) if isinstance(event, Ended))
    assert isinstance(events[first + 1], Changed)
    assert events[first + 1].note == "fp32 was not run again: fp32-1 could not be used"
    assert not any(isinstance(event, Changed) for event in events[:first])


def test_no_run_goes_on_beyond_the_budget() -> None:
    limits: list[float] = []
    clock = Clock()

    def run(plan: ChildPlan, *, time_limit_s: float, on_progress: object) -> RunRecord:
        limits.append(time_limit_s)
        clock.now += 4
        return record(plan)

    carry_out(OPTIONS, ("fp32", "amp-bf16"), time_limit_s=15, budget_s=20, run=run, clock=clock)
    assert limits == [15, 15, 12, 8, 4]


def test_a_first_run_that_takes_the_whole_budget() -> None:
    asked, session, _ = carried(lambda plan: record(plan, wall_s=50.0, outcome="time-limit"), budget_s=30.0)
    assert asked == ["fp32-1"]
    assert session.notes == ["the budget of 30 s leaves no time for 4 runs of the plan"]


def test_a_variant_that_fails_is_not_run_again_and_the_others_are() -> None:
    asked, session, _ = carried(lambda plan: dead(plan) if plan.variant == "amp-bf16" else record(plan))
    assert asked == ["fp32-1", "amp-bf16-1", "fp32-2", "fp32-perturbed"]
    assert not session.notes  # the report has it: not measured
    assert [done.usable for done in session.done] == [True, False, True, True]


def test_a_variant_that_fails_in_a_later_round_is_noted() -> None:
    options = Options(OPTIONS.target, "cpu", "/out", rounds=3)
    _, session, _ = carried(lambda plan: dead(plan) if plan.run == "amp-bf16-2" else record(plan), options)
    assert session.notes == ["amp-bf16 was not run again: amp-bf16-2 could not be used"]


def test_a_script_that_always_fails_is_run_once_per_variant() -> None:
    asked, session, _ = carried(dead)
    assert asked == ["fp32-1", "amp-bf16-1"]
    assert not any(done.usable for done in session.done)


def fails_early(plan: ChildPlan, mode: str = "as-is", outcome: str = "exception", steps: int = 0) -> RunRecord:
    return record(plan, [], steps=steps, outcome=outcome, sentence="raised", control=Control(mode))  # type: ignore


def test_a_script_that_fails_by_itself_before_its_first_step_is_run_once() -> None:
    for outcome in ("exception", "exit", "no-steps"):
        asked, session, events = carried(lambda plan, outcome=outcome: fails_early(plan, outcome=outcome))
        assert asked == ["fp32-1"] and len(session.done) == 1
        note = "nothing else was run: the script ended by itself before its first step"
        assert session.notes == [note]
        assert [type(event) for event in events[-2:]] == [Ended, Changed]
        assert not any(isinstance(event, Estimated) for event in events)


def test_what_another_precision_may_mend_is_run() -> None:
    """The script's own autocast, switched off for fp32; memory, of which autocast may need less; later steps."""
    for changes in ({"mode": "neutralised"}, {"outcome": "out-of-memory"}, {"steps": 1}):
        asked, _, _ = carried(lambda plan, changes=changes: fails_early(plan, **changes))
        assert asked == ["fp32-1", "amp-bf16-1"], changes


def test_passes_by_which_a_step_was_found_are_not_expected_again() -> None:
    """The first run of an L-BFGS makes 350 passes of 100 ms, all others 25."""

    def answer(plan: ChildPlan) -> RunRecord:
        passes = 350 if plan.counted is None else 25
        return record(plan, [100.0] * 20, steps=passes, counted="backward", wall_s=2 + passes / 10)

    asked, session, events = carried(answer, budget_s=60)
    assert [event.total_s for event in events if isinstance(event, Estimated)] == [37 + 4 * 4.5]
    assert asked == PLAN and not session.notes


def test_a_run_that_failed_late_does_not_count() -> None:
    _, session, _ = carried(lambda plan: record(plan, outcome="exception", sentence="raised ValueError after 9 steps"))
    assert not any(done.usable for done in session.done)


def test_a_time_limit_after_enough_steps_counts() -> None:
    asked, session, _ = carried(lambda plan: record(plan, outcome="time-limit"))
    assert asked == PLAN and all(done.usable for done in session.done)


def test_a_script_of_few_steps_is_planned_anew() -> None:
    def short(plan: ChildPlan) -> RunRecord:
        measured = max(0, min(plan.steps, 5 - plan.warmup))
        return record(
            plan, [10.0] * measured, outcome="completed" if plan.steps + plan.warmup > 5 else "bounded", steps=5
        )

    asked, session, _ = carried(short)
    assert asked == ["fp32-1", *PLAN]
    assert (session.options.warmup, session.options.steps) == (1, 4)
    assert len(session.done) == session.planned_runs == 5 and all(done.usable for done in session.done)
    assert session.notes == [
        "the script ended by itself after 5 steps: runs were planned anew with 1 warm-up and 4 measured steps"
    ]


def test_a_script_of_two_steps_cannot_be_measured() -> None:
    asked, session, _ = carried(lambda plan: record(plan, [], outcome="completed", steps=2))
    assert asked == ["fp32-1", "amp-bf16-1"]
    assert not any(done.usable for done in session.done)


def test_an_interrupt_keeps_what_was_measured() -> None:
    def interrupted(plan: ChildPlan) -> RunRecord:
        if plan.run == "amp-bf16-2":
            raise KeyboardInterrupt
        return record(plan)

    asked, session, _ = carried(interrupted)
    assert asked == PLAN[:3]
    assert session.interrupted and [done.planned.plan.run for done in session.done] == PLAN[:2]


def test_what_a_run_has_shown_of_the_script_is_told_to_the_next() -> None:
    told: list[tuple[bool | None, str | None]] = []

    def answer(plan: ChildPlan) -> RunRecord:
        told.append((plan.own_amp, plan.counted))
        return record(plan, counted="backward", control=Control("neutralised", own_amp=plan.variant == "fp32"))

    carried(answer)
    assert told == [(None, None), *[(True, "backward")] * 4]
