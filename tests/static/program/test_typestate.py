"""The tables of the GradScaler typestate, cell by cell, and the whole automaton against torch itself."""

from __future__ import annotations

import pytest

from mpaudit.static.program import typestate as ts
from mpaudit.static.program.definitions import Site
from mpaudit.static.program.typestate import (
    EMPTY,
    RAW,
    UNKNOWN,
    Grad,
    Kind,
    OptimizerState,
    PairState,
    Protocol,
    Recorded,
    Scale,
    ScalerState,
    Stage,
    Used,
)

S, T, OPT = "scaler", "other scaler", "optimizer"
MIXED = Grad(Kind.MIXED, S, "MPA224", "cause")
GRADS = {
    "empty": EMPTY,
    "raw": RAW,
    "scaled": Grad(Kind.SCALED, S),
    "scaled by another": Grad(Kind.SCALED, T),
    "unscaled": Grad(Kind.UNSCALED, S),
    "stale": Grad(Kind.STALE, S),
    "mixed": MIXED,
    "top": UNKNOWN,
}


def start(
    grad: str = "empty",
    stage: Stage = Stage.READY,
    *,
    used: Used = Used.NO,
    zeroed: bool = False,
    crossed: bool = False,
    left: str | None = None,
    fed: bool = True,
    scale: Scale = Scale.SET,
    recorded: Recorded = Recorded.NO,
) -> Protocol:
    return Protocol(
        scalers={S: ScalerState(scale, recorded)},
        pairs={(S, OPT): PairState(stage, crossed=crossed, site="before", left=left)},
        optimizers={OPT: OptimizerState(GRADS[grad], used, zeroed=zeroed, fed=fed, backward="backward")},
    )


def grad(p: Protocol) -> str:
    """The state of the gradients, as GRADS names it; MIXED with the rule that made it so."""
    held = p.optimizers[OPT].grad
    if held.kind is Kind.MIXED:
        return f"mixed {held.code[3:]}"
    return next(name for name, state in GRADS.items() if (state.kind, state.scaler) == (held.kind, held.scaler))


class Reports(list[tuple[str, object]]):
    def __call__(self, violation: ts.Violation) -> None:
        self.append((violation.code[3:], violation.site))

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self]


# ------------------------------------------------------- backward and zero_grad


@pytest.mark.parametrize(
    ("before", "scaled", "unscaled"),
    [
        ("empty", "scaled", "raw"),
        ("raw", "mixed 224", "raw"),
        ("scaled", "scaled", "mixed 224"),
        ("scaled by another", "mixed 224", "mixed 224"),
        ("unscaled", "mixed 212", "unscaled"),
        ("stale", "mixed 210", "mixed 210"),
        ("mixed", "mixed 224", "mixed 224"),
        ("top", "scaled", "raw"),
    ],
)
def test_backward(before: str, scaled: str, unscaled: str) -> None:
    for scaler, after in ((S, scaled), (None, unscaled)):
        p = start(before)
        ts.backward(p, OPT, scaler, "here")
        assert (grad(p), p.optimizers[OPT].used) == (after, Used.NO)


@pytest.mark.parametrize("scaler", [S, None])
@pytest.mark.parametrize("before", ["unscaled", "raw"])
def test_backward_onto_gradients_that_a_step_has_applied(before: str, scaler: str | None) -> None:
    p = start(before, used=Used.YES)
    ts.backward(p, OPT, scaler, "here")
    same_scale = before == "raw" and scaler is None
    assert grad(p) == ("raw" if same_scale else "mixed 228")


def test_backward_of_an_unknown_loss_and_of_a_mixed_one() -> None:
    p = start("scaled")
    ts.backward_unknown(p, OPT, "here")
    assert grad(p) == "top"
    ts.backward_mixed(p, OPT, S, "here")
    assert grad(p) == "mixed 224"


@pytest.mark.parametrize("before", GRADS)
def test_zero_empties_whatever_was(before: str) -> None:
    p = start(before, used=Used.YES)
    ts.zero(p, OPT, "zero")
    assert (grad(p), p.optimizers[OPT].used, p.optimizers[OPT].zeroed) == ("empty", Used.NO, True)


def test_a_mixed_state_is_reported_when_a_step_applies_it_and_a_zero_clears_it() -> None:
    reports = Reports()
    p = start("raw")
    ts.backward(p, OPT, S, "here")
    cleared = p.copy()
    ts.step(p, S, OPT, "step", reports)
    assert reports == [("224", "here")]
    ts.zero(cleared, OPT, "zero")
    ts.backward(cleared, OPT, S, "again")
    ts.step(cleared, S, OPT, "step", reports)
    assert len(reports) == 1


# ----------------------------------------------------------------------- unscale


@pytest.mark.parametrize(
    ("before", "after", "recorded"),
    [
        ("empty", "empty", Recorded.NO),
        ("raw", "mixed 202", Recorded.YES),
        ("scaled", "unscaled", Recorded.YES),
        ("scaled by another", "mixed 224", Recorded.YES),
        ("unscaled", "mixed 228", Recorded.YES),
        ("stale", "mixed 210", Recorded.YES),
        ("mixed", "mixed 224", Recorded.YES),
        ("top", "unscaled", Recorded.YES),
    ],
)
def test_unscale_of_a_ready_optimizer(before: str, after: str, recorded: Recorded) -> None:
    p, reports = start(before), Reports()
    ts.unscale(p, S, OPT, "here", reports)
    assert (grad(p), p.scalers[S].recorded, p.pairs[S, OPT].stage) == (after, recorded, Stage.UNSCALED)
    assert reports == []


@pytest.mark.parametrize(
    ("stage", "crossed", "left", "code", "site"),
    [
        (Stage.UNSCALED, False, None, "206", "here"),
        (Stage.UNSCALED, True, None, "206", "here"),
        (Stage.UNSCALED, True, "continue", "207", "continue"),
        (Stage.STEPPED, False, None, "208", "here"),
        (Stage.STEPPED, True, None, "204", "before"),
    ],
)
@pytest.mark.parametrize("before", ["scaled", "unscaled", "raw", "mixed", "top"])
def test_unscale_by_stage(before: str, stage: Stage, crossed: bool, left: str | None, code: str, site: str) -> None:
    p, reports = start(before, stage, crossed=crossed, left=left), Reports()
    ts.unscale(p, S, OPT, "here", reports)
    assert reports == [(code, site)]
    assert (grad(p), p.pairs[S, OPT].stage) == ("unscaled", Stage.UNSCALED)


# -------------------------------------------------------------------------- step

STEP = [
    # gradients, of a ready optimizer, of an unscaled one
    ("raw", ["202"], []),
    ("scaled", [], ["212"]),
    ("scaled by another", ["224"], ["224"]),
    ("unscaled", ["228"], []),
    ("stale", ["210"], ["210"]),
    ("mixed", ["224"], ["224"]),
    ("top", [], []),
]


@pytest.mark.parametrize(("before", "ready", "unscaled"), STEP)
def test_step(before: str, ready: list[str], unscaled: list[str]) -> None:
    for stage, codes in ((Stage.READY, ready), (Stage.UNSCALED, unscaled)):
        p, reports = start(before, stage), Reports()
        ts.step(p, S, OPT, "here", reports)
        assert reports.codes == codes
        assert (grad(p), p.optimizers[OPT].used) == ("unscaled", Used.YES)
        assert (p.pairs[S, OPT].stage, p.scalers[S].recorded) == (Stage.STEPPED, Recorded.YES)


@pytest.mark.parametrize("stage", [Stage.READY, Stage.UNSCALED])
def test_step_of_emptied_gradients(stage: Stage) -> None:
    for zeroed, codes in ((True, ["211"]), (False, [])):
        p, reports = start("empty", stage, zeroed=zeroed), Reports()
        ts.step(p, S, OPT, "here", reports)
        assert reports.codes == codes


@pytest.mark.parametrize(("crossed", "code"), [(True, "204"), (False, "209")])
@pytest.mark.parametrize("before", ["scaled", "unscaled", "raw", "stale", "mixed", "top"])
def test_step_of_a_stepped_optimizer(before: str, crossed: bool, code: str) -> None:
    p, reports = start(before, Stage.STEPPED, crossed=crossed), Reports()
    ts.step(p, S, OPT, "here", reports)
    assert reports.codes == ["204" if before == "scaled" else code]  # a backward lies between: the update is missing


@pytest.mark.parametrize("stage", [Stage.READY, Stage.UNSCALED])
@pytest.mark.parametrize("before", ["scaled", "unscaled", "raw", "mixed"])
def test_step_of_gradients_that_a_step_has_applied(before: str, stage: Stage) -> None:
    p, reports = start(before, stage, used=Used.YES), Reports()
    ts.step(p, S, OPT, "here", reports)
    assert reports.codes == ["209"]


@pytest.mark.parametrize(
    ("before", "codes"),
    [
        ("raw", []),
        ("scaled", ["203"]),
        ("unscaled", ["203"]),  # nothing skips the step where the gradients overflowed
        ("stale", ["203"]),
        ("mixed", ["224"]),
        ("top", []),
    ],
)
def test_raw_step(before: str, codes: list[str]) -> None:
    p, reports = start(before, Stage.UNSCALED), Reports()
    ts.raw_step(p, OPT, "here", reports)
    assert reports.codes == codes
    assert p.optimizers[OPT].used is Used.YES


def test_a_raw_step_under_a_check_of_its_own() -> None:
    p, reports = start("unscaled", Stage.UNSCALED), Reports()
    ts.raw_step(p, OPT, "here", reports, checked=True)
    assert reports.codes == []


def test_raw_step_of_applied_and_of_emptied_gradients() -> None:
    for p, code in ((start("unscaled", used=Used.YES), "209"), (start("empty", zeroed=True), "211")):
        reports = Reports()
        ts.raw_step(p, OPT, "here", reports)
        assert reports.codes == [code]


# ------------------------------------------------------------------------ update


@pytest.mark.parametrize(
    ("scale", "recorded", "codes"),
    [
        (Scale.UNSET, Recorded.NO, ["202"]),
        (Scale.SET, Recorded.NO, ["210"]),
        (Scale.SET, Recorded.YES, []),
        (Scale.SET, Recorded.TOP, []),
        (Scale.TOP, Recorded.TOP, []),
        (Scale.TOP, Recorded.YES, []),
    ],
)
def test_update(scale: Scale, recorded: Recorded, codes: list[str]) -> None:
    for new_scale, expected in ((False, codes), (True, [])):
        p, reports = start("unscaled", Stage.UNSCALED, scale=scale, recorded=recorded), Reports()
        ts.update(p, S, "here", reports, new_scale=new_scale)
        assert reports.codes == expected
        assert (p.pairs[S, OPT].stage, p.scalers[S]) == (Stage.READY, ScalerState(Scale.SET, Recorded.NO))


@pytest.mark.parametrize("scale", [Scale.UNSET, Scale.SET])
def test_update_without_a_backward_in_sight_is_left_alone(scale: Scale) -> None:
    p, reports = start(fed=False, scale=scale), Reports()
    ts.update(p, S, "here", reports)
    assert reports == []


@pytest.mark.parametrize("before", GRADS)
def test_update_makes_scaled_gradients_stale(before: str) -> None:
    p = start(before, recorded=Recorded.YES)
    ts.update(p, S, "here", Reports())
    assert grad(p) == {"scaled": "stale", "mixed": "mixed 224"}.get(before, before)


def test_update_makes_stale_what_the_scaler_does_not_know_of() -> None:
    p = start("scaled", recorded=Recorded.YES)
    p.pairs.clear()
    ts.update(p, S, "here", Reports())
    assert (grad(p), p.pairs[S, OPT].stage) == ("stale", Stage.READY)


# --------------------------------------------------------------- scale and clip


@pytest.mark.parametrize("call", [ts.unscale, ts.step])
def test_a_scale_that_was_never_set(call: object) -> None:
    for scaled, codes in ((False, ["202"]), (True, [])):
        p, reports = start("scaled", scale=Scale.UNSET), Reports()
        if scaled:
            ts.scale(p, S)
        call(p, S, OPT, "here", reports)  # type: ignore[operator]
        assert reports.codes == codes


@pytest.mark.parametrize("before", GRADS)
def test_clip(before: str) -> None:
    p, reports = start(before), Reports()
    ts.clip(p, OPT, "clip", reports)
    assert reports == []  # a scale that is stale by then is reported at the step, if there is one
    late, reports = start(before, used=Used.YES), Reports()
    ts.clip(late, OPT, "clip", reports)
    assert reports == [("208", "clip")]


def test_clip_of_scaled_gradients_is_reported_when_they_are_stepped() -> None:
    p, reports = start("scaled"), Reports()
    ts.clip(p, OPT, "clip", reports)
    zeroed = p.copy()
    ts.step(p, S, OPT, "step", reports)
    assert reports == [("205", "clip")]
    ts.zero(zeroed, OPT, "zero")
    ts.backward(zeroed, OPT, S, "backward")
    ts.step(zeroed, S, OPT, "step", reports)
    assert len(reports) == 1


# ------------------------------------------------------------------- the unknown


def unknown() -> Protocol:
    return Protocol()


def test_top_never_reports() -> None:
    for event in (
        lambda p, r: ts.unscale(p, S, OPT, "x", r),
        lambda p, r: ts.step(p, S, OPT, "x", r),
        lambda p, r: ts.raw_step(p, OPT, "x", r),
        lambda p, r: ts.update(p, S, "x", r),
        lambda p, r: ts.clip(p, OPT, "x", r),
    ):
        reports = Reports()
        event(unknown(), reports)
        assert reports == []


def test_an_event_proves_what_it_proves() -> None:
    p = unknown()
    ts.scale(p, S)
    assert p.scaler(S).scale is Scale.SET
    p = unknown()
    ts.unscale(p, S, OPT, "x", Reports())
    assert (p.pair(S, OPT).stage, grad(p)) == (Stage.UNSCALED, "unscaled")
    p = unknown()
    ts.step(p, S, OPT, "x", Reports())
    assert (p.pair(S, OPT).stage, grad(p)) == (Stage.STEPPED, "unscaled")
    ts.update(p, S, "x", Reports())
    assert (p.pair(S, OPT).stage, p.scaler(S).recorded) == (Stage.READY, Recorded.NO)
    for scaler, after in ((S, "scaled"), (None, "raw")):
        p = unknown()
        ts.backward(p, OPT, scaler, "x")
        assert grad(p) == after
    ts.zero(p, OPT, "x")
    assert grad(p) == "empty"


def test_construction_in_sight_and_objects_left_behind() -> None:
    p = unknown()
    ts.new_scaler(p, S)
    ts.new_optimizer(p, OPT)
    assert p.scaler(S) == ScalerState(Scale.UNSET, Recorded.NO)
    assert (p.pair(S, OPT).stage, grad(p), p.optimizer(OPT).used) == (Stage.READY, "empty", Used.NO)
    ts.forget_scaler(p, S)
    assert (p.scaler(S), p.pair(S, OPT)) == (ScalerState(), PairState())
    ts.forget_optimizer(p, OPT)
    assert p.optimizer(OPT) == OptimizerState()
    ts.drop(p, lambda ident: ident == OPT)
    assert (list(p.optimizers), list(p.pairs), list(p.scalers)) == ([], [], [S])


def test_what_two_paths_disagree_on_is_unknown() -> None:
    a, b = start("scaled"), start("raw", Stage.STEPPED, recorded=Recorded.YES)
    joined = ts.join(a, b)
    assert (grad(joined), joined.pairs[S, OPT].stage) == ("top", Stage.TOP)
    assert joined.scalers[S] == ScalerState(Scale.SET, Recorded.TOP)
    assert ts.agree(a, a.copy()) and not ts.agree(a, b)
    assert ts.key(ts.join(a, a.copy())) == ts.key(a)


def test_a_loop_s_back_edge_and_a_path_that_leaves_the_iteration() -> None:
    p = start("unscaled", Stage.UNSCALED)
    ts.leave_iteration(p, "continue")
    ts.cross_back_edge(p)
    assert (p.pairs[S, OPT].crossed, p.pairs[S, OPT].left) == (True, "continue")
    ts.stay_in_iteration(p)
    assert p.pairs[S, OPT].left is None


# ------------------------------------------------------- the tables, as they are

# The states of the columns; a cell is the state after the event, «= 228» one that is so where the gradients were used.
TABLE = {
    #                        EMPTY     RAW             SCALED       UNSCALED        STALE        MIXED
    "backward, scaled":     ("scaled", "224 = 228",    "scaled",    "212 = 228",    "210",       "same"),
    "backward, of another": ("other",  "224 = 228",    "224",       "212 = 228",    "210",       "same"),
    "backward, unscaled":   ("raw",    "raw",          "224",       "same = 228",   "210",       "same"),
    "zero":                 ("empty",  "empty",        "empty",     "empty",        "empty",     "empty"),
}  # fmt: skip
COLUMNS = ("empty", "raw", "scaled", "unscaled", "stale", "mixed")
CELLS = [
    (event, column, used, cell)
    for event, cells in TABLE.items()
    for column, cell in zip(COLUMNS, cells, strict=True)
    for used in (Used.NO, Used.YES, Used.TOP)
]


def _after(cell: str, before: str, used: Used) -> str:
    """What a cell of TABLE says, as `grad` names it."""
    usual, _, if_used = cell.partition(" = ")
    said = if_used if if_used and used is Used.YES else usual
    same = {"mixed": "mixed 224"}.get(before, before)
    return {"same": same, "other": "scaled by another"}.get(said, f"mixed {said}" if said.isdigit() else said)


@pytest.mark.parametrize(("event", "before", "used", "cell"), CELLS)
def test_every_cell_of_backward_and_zero(event: str, before: str, used: Used, cell: str) -> None:
    p = start(before, used=used)
    match event:
        case "zero":
            ts.zero(p, OPT, "here")
        case "backward, unscaled":
            ts.backward(p, OPT, None, "here")
        case _:
            ts.backward(p, OPT, S if event == "backward, scaled" else T, "here")
    assert (grad(p), p.optimizers[OPT].used) == (_after(cell, before, used), Used.NO)


@pytest.mark.parametrize("call", [ts.unscale, ts.step])
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("before", GRADS)
def test_whatever_was_an_event_proves_what_it_proves(before: str, stage: Stage, call: object) -> None:
    p = start(before, stage)
    call(p, S, OPT, "here", Reports())  # type: ignore[operator]
    assert p.scalers[S].scale is Scale.SET
    assert p.pairs[S, OPT].stage is (Stage.STEPPED if call is ts.step else Stage.UNSCALED)
    assert call is not ts.step or (grad(p), p.optimizers[OPT].used) == ("unscaled", Used.YES)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("used", list(Used))
@pytest.mark.parametrize("before", GRADS)
def test_one_event_has_one_finding(before: str, stage: Stage, used: Used) -> None:
    for event in (
        lambda p, r: ts.unscale(p, S, OPT, "here", r),
        lambda p, r: ts.step(p, S, OPT, "here", r),
        lambda p, r: ts.raw_step(p, OPT, "here", r),
        lambda p, r: ts.clip(p, OPT, "here", r),
        lambda p, r: ts.update(p, S, "here", r),
    ):
        reports = Reports()
        event(start(before, stage, used=used), reports)
        assert len(reports) <= 1


# ----------------------------------------- where the engine is quieter than the tables


@pytest.mark.parametrize("call", [ts.unscale, ts.step])
def test_a_scale_never_set_is_no_matter_where_no_backward_is_in_sight(call: object) -> None:
    """The table says MPA202. What ran the backward (a trainer of another package, a callback) may have scaled."""
    p, reports = start("scaled", scale=Scale.UNSET, fed=False), Reports()
    call(p, S, OPT, "here", reports)  # type: ignore[operator]
    assert reports == []


@pytest.mark.parametrize("unscales", [False, True])
def test_without_a_backward_in_sight_it_is_open_whether_gradients_are_used(unscales: bool) -> None:
    """The tables say used = yes, and unscaled gradients: a loop whose backward is elsewhere would be MPA209 or MPA228
    in its second turn."""
    p, reports = start("top", Stage.READY, fed=False), Reports()
    for _ in range(2):
        if unscales:
            ts.unscale(p, S, OPT, "unscale", reports)
        ts.step(p, S, OPT, "step", reports)
        ts.update(p, S, "update", reports)
    assert (reports, p.optimizers[OPT].used) == ([], Used.TOP)


def test_unscaled_gradients_are_divided_twice_only_if_the_stage_is_known_to_be_ready() -> None:
    """The table has one row for every stage that does not say UNSCALED; an unknown one may be."""
    for stage, codes in ((Stage.READY, ["228"]), (Stage.TOP, [])):
        p, reports = start("unscaled", stage), Reports()
        ts.step(p, S, OPT, "here", reports)
        assert reports.codes == codes


def test_a_raw_step_that_bypasses_the_scaler_is_also_why_nothing_is_recorded() -> None:
    """The table says MPA210 at the update as well. One cause, one finding."""
    p, reports = start("scaled"), Reports()
    ts.raw_step(p, OPT, "raw", reports)
    ts.update(p, S, "update", reports)
    assert reports == [("203", "raw")]


def test_the_gradients_of_another_scaler_are_mixed_when_they_are_stepped() -> None:
    """The table of steps has no column for them; that of unscale_ says MPA224."""
    for stage in (Stage.READY, Stage.UNSCALED):
        p, reports = start("scaled by another", stage), Reports()
        ts.step(p, S, OPT, "here", reports)
        assert reports.codes == ["224"]


def test_a_backward_of_another_loss_leaves_a_doubt_in_what_was_zeroed() -> None:
    site, found = Site("a.py", 1, 1, 1, 1), list[ts.Violation]()
    for doubted in (False, True):
        p = ts.Protocol()
        ts.backward(p, "policy", None, site)
        ts.zero(p, "policy", site)
        if doubted:
            ts.doubt_zeroed(p, ["critic"])
        ts.raw_step(p, "policy", site, found.append)
        assert [violation.code for violation in found] == ["MPA211"]  # of the first turn only
