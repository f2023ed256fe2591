"""Ways to break correct mixed-precision code. Each finds its sites by syntax alone and knows what must be reported."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from benchmarks.source import Edit, Function, Loop, Source, marked


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken project: where it was broken, how, and which codes say so at the marked places."""

    operator: str
    path: str
    line: int
    codes: frozenset[str]
    edits: tuple[Edit, ...]


class Tree:
    """The Python files of one project, by path."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = sorted(sources, key=lambda s: s.path)

    @cached_property
    def scaler_names(self) -> frozenset[str]:
        """Last names of what a GradScaler was assigned to, anywhere in the project."""
        names = set()
        for source in self.sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Assign) and any(_is_scaler_made(n) for n in ast.walk(node.value)):
                    names |= {_last(t) for t in node.targets}
        return frozenset(names - {""})

    def is_scaler(self, node: ast.expr) -> bool:
        name = _last(node)
        return name in self.scaler_names or re.search(r"scaler(_?\w)?$", name, re.IGNORECASE) is not None

    @cached_property
    def off(self) -> frozenset[str]:
        """Scalers that are never on, `GradScaler(enabled=False)`: nothing that is done with them can be broken."""
        made: dict[str, list[bool]] = {}
        for source in self.sources:
            for call, target in _made_in(source):
                disabled = re.search(r"enabled\s*=\s*False", source.code(call)) is not None
                made.setdefault(_last(target), []).append(disabled)
        return frozenset(name for name, disabled in made.items() if all(disabled))

    def scaler_calls(self, source: Source, method: str, within: ast.AST | None = None) -> list[ast.Call]:
        return [
            call
            for call in source.calls(within)
            if isinstance(call.func, ast.Attribute) and call.func.attr == method and self.is_scaler(call.func.value)
            if _last(call.func.value) not in self.off
        ]

    def updates(self, source: Source) -> list[ast.Call]:
        """`scaler.update()`; with an argument it sets the scale and ends no iteration."""
        return [call for call in self.scaler_calls(source, "update") if not call.args and not call.keywords]

    def steps(self, source: Source, within: ast.AST | None = None) -> list[ast.Call]:
        return [call for call in self.scaler_calls(source, "step", within) if call.args]

    def scaled_backwards(self, source: Source, within: ast.AST | None = None) -> list[ast.Call]:
        """`scaler.scale(loss).backward(…)`."""
        return [
            call
            for call in backwards(source, within)
            if isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Call)
            and call.func.value in self.scaler_calls(source, "scale", call)
        ]

    def inside(self, clips: Iterable[ast.Call]) -> list[tuple[Source, ast.AST]]:
        """What the project's own functions of these names do to gradients: `p.grad.mul_(…)`, `clip_grad_norm_(…)`."""
        names = {_last(clip.func) for clip in clips}
        return [
            (source, call)
            for source in self.sources
            for function in ast.walk(source.tree)
            if isinstance(function, Function) and function.name in names
            for call in source.calls(function)
            if re.search(r"\bgrad\b.*\.(mul_|div_|clamp_|clip_)$|clip_grad", source.code(call.func))
        ]

    @cached_property
    def every_step(self) -> list[tuple[Source, ast.Call]]:
        return [(source, call) for source in self.sources for call in self.steps(source)]

    @cached_property
    def every_backward(self) -> list[tuple[Source, ast.Call]]:
        return [(source, call) for source in self.sources for call in self.scaled_backwards(source)]

    @cached_property
    def made(self) -> list[tuple[Source, ast.Call]]:
        """Every construction of a GradScaler."""
        return [(source, call) for source in self.sources for call in source.calls() if _is_scaler_made(call)]


Operator = Callable[[Tree], Iterator[Mutant]]
OPERATORS: dict[str, Operator] = {}


def operator(*codes: str) -> Callable[[Callable[[Tree], Iterator[tuple[Source, ast.AST, list[Edit]]]]], Operator]:
    """Registers a generator of (file, site, edits) under its own name, as one that must give one of `codes`."""

    def register(find: Callable[[Tree], Iterator[tuple[Source, ast.AST, list[Edit]]]]) -> Operator:
        name = find.__name__.replace("_", "-")

        def mutants(tree: Tree) -> Iterator[Mutant]:
            for source, node, edits in find(tree):
                yield Mutant(name, source.path, node.lineno, frozenset(codes), tuple(edits))  # type: ignore[attr-defined]

        OPERATORS[name] = mutants
        mutants.codes = frozenset(codes)  # type: ignore[attr-defined]
        return mutants

    return register


# ------------------------------------------------------------------- scaler.update


@operator("MPA204")
def drop_update(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.updates(source):
            steps = [c for c in tree.steps(source, source.function(call)) if _same_scaler(c, call)]
            where = [(source, c) for c in steps] or [(s, c) for s, c in tree.every_step if _same_scaler(c, call)]
            yield source, call, [*source.drop(call), *_marks(where)]


@operator("MPA210", "MPA228")
def update_before_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.updates(source):
            update = source.statement(call)
            if _is_alone(source, call) and (step := _earlier(source, update, tree.steps(source))):
                moved = source.before(step, marked(source.text_of(update)))
                yield source, call, [*moved, *source.cut(update), *source.mark(step)]


@operator("MPA210", "MPA207")
def update_in_each_micro_batch(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.updates(source):
            guard = _accumulation_guard(source, call)
            if guard is not None and _is_alone(source, call):
                update = source.statement(call)
                yield source, call, [*source.cut(update), *source.after(guard, marked(source.text_of(update)))]


@operator("MPA204")
def update_per_epoch(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The update leaves the innermost loop and follows it."""
    for source in tree.sources:
        for call in tree.updates(source):
            loops = source.loops(call)
            if not loops or not _is_alone(source, call) or not source.own_lines(loops[0]):
                continue
            steps = [c for c in tree.steps(source, loops[0]) if _same_scaler(c, call)]
            where = [(source, c) for c in steps] or [(s, c) for s, c in tree.every_step if _same_scaler(c, call)]
            update = source.statement(call)
            moved = source.after(loops[0], marked(source.text_of(update)))
            yield source, call, [*source.cut(update), *moved, *_marks(where)]


@operator("MPA210", "MPA204")
def update_after_each_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Of two optimizers that one backward has fed, the first is followed by an update of its own."""
    for source in tree.sources:
        for first, second in itertools.pairwise(tree.steps(source)):
            between = [c for c in backwards(source, source.function(first)) if first.lineno < c.lineno < second.lineno]
            updates = [c for c in tree.updates(source) if first.lineno < c.lineno < second.lineno]
            suite, _ = source.suite(source.statement(first))
            if (
                _same_scaler(first, second)
                and source.statement(second) in suite
                and not between + updates
                and _optimizer(source, first) != _optimizer(source, second)
            ):
                scaler = source.code(first.func.value)  # type: ignore[attr-defined]
                yield source, first, [*_added_after(source, first, f"{scaler}.update()"), *source.mark(second)]


@operator("MPA204", "MPA206", "MPA207")
def update_under_the_condition_of_a_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Of several optimizers one is stepped under a condition, and the update goes there too."""
    for source in tree.sources:
        for call in tree.updates(source):
            steps = [c for c in tree.steps(source, source.function(call)) if _same_scaler(c, call)]
            if len({_optimizer(source, step) for step in steps}) < 2 or not _is_alone(source, call):
                continue
            update = source.statement(call)
            suite, place = source.suite(update)
            for step in steps:
                branch = next((n for n in source.above(step) if isinstance(n, ast.If) and n in suite[:place]), None)
                others = [c for c in steps if branch is None or c not in source.calls(_as_body(branch))]
                inner = source.statement(step)
                if branch is not None and others and not branch.orelse and source.own_lines(inner):
                    moved = source.after(inner, marked(source.text_of(update)))
                    unscales = [c for o in others for c in tree.scaler_calls(source, "unscale_", source.function(o))]
                    marks = _marks((source, c) for c in [*others, *unscales])
                    yield source, call, [*source.cut(update), *moved, *marks]
                    break


# -------------------------------------------------------------------- scaler.step


@operator("MPA203")
def raw_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            yield source, call, source.replace(call, f"{_optimizer(source, call)}.step()")


@operator("MPA209")
def step_twice(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            yield source, call, _added_after(source, call, source.code(call))


@operator("MPA209")
def raw_step_after_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            yield source, call, _added_after(source, call, f"{_optimizer(source, call)}.step()")


@operator("MPA204", "MPA209", "MPA208")
def step_in_each_micro_batch(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The step leaves the accumulation guard; what is left in there comes after it."""
    for source in tree.sources:
        for call in tree.steps(source):
            guard = _accumulation_guard(source, call)
            if guard is not None and _is_alone(source, call):
                step = source.statement(call)
                late = [(source, c) for c in tree.scaler_calls(source, "unscale_", guard)]
                moved = source.before(guard, marked(source.text_of(step)))
                yield source, call, [*source.cut(step), *moved, *_marks(late)]


# ------------------------------------------------------------------- scaler.scale


@operator("MPA202", "MPA224")
def raw_backward(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaled_backwards(source):
            scale = call.func.value  # type: ignore[attr-defined]
            if len(scale.args) == 1:
                yield source, call, [*source.mark(call), *_unmarked(source, scale, _atom(source, scale.args[0]))]


@operator("MPA202", "MPA224")
def scaled_loss_discarded(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaled_backwards(source):
            scale = call.func.value  # type: ignore[attr-defined]
            if len(scale.args) == 1 and _is_alone(source, call):
                edits = source.before(source.statement(call), source.code(scale))
                edits += _unmarked(source, scale, _atom(source, scale.args[0]))
                yield source, call, [*edits, *source.mark(call)]


@operator("MPA224")
def second_loss_unscaled(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaled_backwards(source):
            scale = call.func.value  # type: ignore[attr-defined]
            if len(scale.args) == 1 and _is_alone(source, call):
                text = f"{_atom(source, scale.args[0])}.backward(retain_graph=True)"
                yield source, call, [*source.before(source.statement(call), marked(text)), *source.mark(call)]


# ----------------------------------------------------------------- scaler.unscale_


@operator("MPA205", "MPA218")
def drop_unscale(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            clips = [c for c in _clips(source, source.function(call)) if c.lineno > call.lineno]
            yield source, call, [*_dropped(source, call), *_marks([*((source, c) for c in clips), *tree.inside(clips)])]


@operator("MPA212", "MPA206")
def unscale_before_backward(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The unscale_ goes before the backward of its own suite, where there is nothing yet to divide; where that stands
    outside of an accumulation guard, the second one before an update raises (MPA206)."""
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            unscale = source.statement(call)
            first = _earlier(source, unscale, tree.scaled_backwards(source))
            if first is not None and _is_alone(source, call):
                moved = source.before(first, marked(source.text_of(unscale)))
                yield source, call, [*source.cut(unscale), *moved, *source.mark(first)]


@operator("MPA206", "MPA212")
def unscale_in_each_micro_batch(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            guard = _accumulation_guard(source, call)
            if guard is not None and _is_alone(source, call):
                statement = source.statement(call)
                moved = source.before(guard, marked(source.text_of(statement)))
                yield source, call, [*source.cut(statement), *moved]


@operator("MPA206")
def unscale_twice(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            yield source, call, _added_after(source, call, source.code(call))


@operator("MPA205", "MPA206", "MPA208", "MPA212")
def unscale_of_another(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The unscale_ names another of the optimizers that its function steps."""
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            around = source.function(call)
            others = {_optimizer(source, step) for step in tree.steps(source, around)}
            others -= {_optimizer(source, call)} if call.args else others
            if others:
                scaler = source.code(call.func.value)  # type: ignore[attr-defined]
                near = [*_clips(source, around), *tree.scaler_calls(source, "unscale_", around)]
                marks = _marks((source, c) for c in near if c is not call)
                yield source, call, [*source.replace(call, f"{scaler}.unscale_({min(others)})"), *marks]


@operator("MPA205")
def clip_in_each_micro_batch(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The clip leaves the accumulation guard, in which the unscale_ stays."""
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            guard = _accumulation_guard(source, call)
            clips = [c for c in _clips(source, guard) if c.lineno > call.lineno] if guard is not None else []
            clips = [c for c in clips if _is_alone(source, c) and source.own_lines(source.statement(c))]
            if guard is not None and clips:
                clip = source.statement(clips[0])
                moved = source.before(guard, marked(source.text_of(clip)))
                yield source, clips[0], [*source.cut(clip), *moved]


@operator("MPA205", "MPA218")
def values_clipped_before_unscale(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            if _is_alone(source, call) and call.args and source.own_lines(source.statement(call)):
                groups = f"{_optimizer(source, call)}.param_groups"
                text = f"for group in {groups}:\n    for p in group['params']:\n        p.grad.clamp_(-1.0, 1.0)"
                yield source, call, source.before(source.statement(call), marked(text))


@operator("MPA208")
def unscale_after_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            scaler = source.code(call.func.value)  # type: ignore[attr-defined]
            yield source, call, _added_after(source, call, f"{scaler}.unscale_({_optimizer(source, call)})")


@operator("MPA205")
def clip_before_unscale(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            unscale = source.statement(call)
            if not _is_alone(source, call):
                continue
            suite, place = source.suite(unscale)
            for later in suite[place + 1 :]:
                clips = _clips(source, later)
                if clips and source.own_lines(later) and source.own_lines(unscale):
                    moved = source.after(later, source.text_of(unscale))
                    marks = _marks([*((source, c) for c in clips), *tree.inside(clips)])
                    yield source, call, [*source.cut(unscale), *moved, *marks]
                    break


@operator("MPA208")
def clip_after_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            step = source.statement(call)
            suite, place = source.suite(step)
            for earlier in reversed(suite[:place]):
                if isinstance(earlier, ast.Expr | ast.Assign) and _clips(source, earlier):
                    yield source, call, [*source.cut(earlier), *source.after(step, marked(source.text_of(earlier)))]
                    break


@operator("MPA212")
def backward_after_unscale(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            around = source.function(call)
            before = [c for c in tree.scaled_backwards(source, around) if c.lineno < call.lineno]
            if before:
                yield source, call, _added_after(source, call, source.code(before[-1]))


@operator("MPA207", "MPA206")
def skip_after_unscale(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "unscale_"):
            if _is_alone(source, call) and source.own_lines(source.statement(call)):
                leave = "continue" if source.loops(call) else "return"
                if leave == "return" and not isinstance(source.function(call), Function):
                    continue
                text = marked(f"if not math.isfinite(grad_norm):\n    {leave}")
                yield source, call, [*source.after(source.statement(call), text), *source.mark(call)]


# ----------------------------------------------------------------------- zero_grad


@operator("MPA211")
def zero_grad_before_step(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.steps(source):
            text = marked(f"{_optimizer(source, call)}.zero_grad()")
            yield source, call, [*_put_before(source, call, text), *source.mark(call)]


@operator("MPA228")
def drop_zero_grad(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """A function that steps never zeroes one of its optimizers: all `optimizer.zero_grad()` of one name go."""
    for source in tree.sources:
        groups: dict[tuple[ast.AST, str], list[ast.Call]] = {}
        for call in source.calls():
            if isinstance(call.func, ast.Attribute) and call.func.attr == "zero_grad":
                groups.setdefault((source.function(call), source.code(call.func.value)), []).append(call)
        for (around, _), calls in groups.items():
            if tree.steps(source, around) or tree.scaled_backwards(source, around):
                near = [(source, call) for call in backwards(source, around)] or tree.every_backward
                yield source, calls[-1], [*(edit for call in calls for edit in source.drop(call)), *_marks(near)]


# ------------------------------------------------------------------ where things lie


@operator("MPA213")
def scaler_in_batch_loop(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    yield from _remade_in_loop(tree, 0)


@operator("MPA213")
def scaler_in_epoch_loop(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    yield from _remade_in_loop(tree, -1)


def _remade_in_loop(tree: Tree, which: int) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Makes the scaler again at the head of the innermost (0) or outermost (-1) loop around a scaled backward."""
    seen: set[ast.AST] = set()
    for source in tree.sources:
        for call in tree.scaled_backwards(source):
            loops = [loop for loop in source.loops(call) if source.own_lines(loop.body[0])]
            scaler = call.func.value.func.value  # type: ignore[attr-defined]
            if not loops or (which == -1 and len(loops) < 2) or loops[which] in seen or not _settable(scaler):
                continue
            loop = loops[which]
            seen.add(loop)
            made = [made for made, target in _made_in(source) if _last(target) == _last(scaler)]
            made = [call for call in made if not re.search(r"enabled\s*=\s*False", source.code(call))]
            function = source.function(call)
            near = [m for m in made if source.function(m) is function]
            if near:
                text = source.code(near[-1])
            elif re.search(r"^import torch$", source.text, re.MULTILINE):
                text = "torch.cuda.amp.GradScaler()"
            else:
                continue
            yield source, call, source.before(_first(loop.body), marked(f"{source.code(scaler)} = {text}"))


@operator("MPA213")
def scaler_in_epoch_function(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """A function that takes the scaler, called in a loop anywhere, makes its own."""
    looped = {
        _last(call.func)
        for source in tree.sources
        for node in ast.walk(source.tree)
        if isinstance(node, Loop)
        for call in source.calls(node)
    }
    for source in tree.sources:
        if not re.search(r"^import torch$", source.text, re.MULTILINE):
            continue
        for function in ast.walk(source.tree):
            if isinstance(function, Function) and function.name in looped and tree.steps(source, function):
                names = [a.arg for a in [*function.args.args, *function.args.kwonlyargs]]
                used = {c.func.value.id for c in tree.steps(source, function) if isinstance(c.func.value, ast.Name)}  # type: ignore[attr-defined]
                for name in names:
                    if name in used and source.own_lines(function.body[0]):
                        text = marked(f"{name} = torch.cuda.amp.GradScaler()")
                        yield source, function, source.before(_first(function.body), text)


@operator("MPA103")
def backward_into_autocast(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Everything from the end of an autocast block to the next backward of the same suite is pushed into it."""
    yield from _pushed_into_autocast(tree, backwards)


@operator("MPA103", "MPA104")
def wrapper_call_into_autocast(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """The same for `loss_scaler(loss, optimizer, …)`, whose backward and step lie in another function or file."""

    def wrappers(source: Source, within: ast.AST) -> list[ast.Call]:
        return [call for call in source.calls(within) if call.args and tree.is_scaler(call.func)]

    yield from _pushed_into_autocast(tree, wrappers, [*tree.every_backward, *tree.every_step])


def _pushed_into_autocast(
    tree: Tree,
    targets: Callable[[Source, ast.AST], list[ast.Call]],
    elsewhere: Iterable[tuple[Source, ast.Call]] = (),
) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for block in _autocast_blocks(source):
            if targets(source, block) or not source.own_lines(block.body[0]):
                continue
            suite, place = source.suite(block)
            for number, later in enumerate(suite[place + 1 :], place + 1):
                found = [] if isinstance(later, Function | ast.ClassDef) else targets(source, later)
                if found:
                    unit = source.indent(block.body[0])[len(source.indent(block)) :]
                    pushed = source.indented(suite[place + 1 : number + 1], unit)
                    found += [call for call in source.calls(later) if call.args and tree.is_scaler(call.func)]
                    yield source, later, [*pushed, *_marks([*((source, call) for call in found), *elsewhere])]
                    break
                if isinstance(later, ast.With) and later in _autocast_blocks(source):
                    break


@operator("MPA104")
def step_into_autocast(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        blocks = _autocast_blocks(source)
        for call in tree.steps(source):
            function = source.function(call)
            earlier = [b for b in blocks if b.lineno < call.lineno and source.function(b) is function]
            step = source.statement(call)
            if earlier and _is_alone(source, call) and source.own_lines(step):
                item = _autocast_item(earlier[-1])
                text = f"with {source.code(item)}:\n    " + marked(source.text_of(step)).replace("\n", "\n    ")
                yield source, call, [*source.cut(step), *source.after(step, text)]


# ------------------------------------------------------------------------ autocast


@operator("MPA105")
def autocast_not_entered(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for block in _autocast_blocks(source):
            if len(block.items) == 1 and isinstance(block.items[0].context_expr, ast.Call):
                yield source, block, _header(source, block, marked(source.code(block.items[0].context_expr)), "if True")


@operator("MPA101", "MPA216")
def drop_autocast(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """No autocast block is left in the project: one of several would be a choice, not a mistake."""
    edits, places = [], []
    for source in tree.sources:
        for block in _autocast_blocks(source):
            if len(block.items) == 1:
                edits += _header(source, block, "", "if True")
                places += source.mark(block)
    for source in tree.sources:
        scaled = tree.scaled_backwards(source)
        if scaled and edits:
            near = [(source, call) for call in source.calls(source.function(scaled[0]))]
            yield source, scaled[0], [*edits, *places, *_marks([*near, *tree.made])]


@operator("MPA101", "MPA216")
def autocast_decorator_dropped(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """`@autocast()` on a forward, and every other autocast of the project with it."""
    edits: list[Edit] = []
    dropped = 0
    for source in tree.sources:
        for function in ast.walk(source.tree):
            for decorator in function.decorator_list if isinstance(function, Function) else ():
                if re.search(r"\bautocast\b", source.code(decorator)) and "False" not in source.code(decorator):
                    at = source.text.rindex("@", 0, source.start(decorator))
                    edits.append(Edit(source.path, at, source.end(decorator), ""))
                    dropped += 1
        for block in _autocast_blocks(source):
            if len(block.items) == 1:
                edits += _header(source, block, "", "if True")
    for source in tree.sources:
        scaled = tree.scaled_backwards(source)
        if scaled and dropped:
            near = [(source, call) for call in source.calls(source.function(scaled[0]))]
            yield source, scaled[0], [*edits, *_marks([*near, *tree.made])]


@operator("MPA215")
def bf16_under_scaler(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Every autocast of the project computes in bfloat16: while one is left in float16, the scaler has its use."""
    edits = []
    for source in tree.sources:
        for call in _autocast_calls(source):
            given = next((k.value for k in call.keywords if k.arg == "dtype"), None)
            if given is not None and source.code(given) != "torch.bfloat16":
                edits += _unmarked(source, given, "torch.bfloat16")
            elif given is None:
                end = source.end(call) - 1
                comma = ", " if call.args or call.keywords else ""
                edits.append(Edit(source.path, end, end, comma + "dtype=torch.bfloat16"))
    for source in tree.sources:
        scaled = tree.scaled_backwards(source)
        if scaled and edits:
            yield source, scaled[0], [*edits, *_marks([*((source, call) for call in scaled), *tree.made])]


@operator("MPA106")
def autocast_of_a_device(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """`device.type` loses its `.type`, and "cuda" becomes a torch.device."""
    for source in tree.sources:
        for call, device in _device_types(source):
            if isinstance(device, ast.Attribute) and device.attr == "type":
                yield source, call, [*source.mark(call), *_unmarked(source, device, source.code(device.value))]
            elif isinstance(device, ast.Constant):
                text = f"torch.device({source.code(device)})"
                yield source, call, [*source.mark(call), *_unmarked(source, device, text)]


@operator("MPA106")
def autocast_of_an_unknown_device(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call, device in _device_types(source):
            if isinstance(device, ast.Constant):
                yield source, call, [*source.mark(call), *_unmarked(source, device, '"gpu"')]


@operator("MPA108")
def autocast_arguments_of_the_other(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """`torch.cuda.amp.autocast` is given the device of `torch.autocast`, and `torch.autocast` a flag in its second
    place."""
    for source in tree.sources:
        for call in _autocast_calls(source):
            old = re.search(r"cuda\.amp\.autocast$", source.code(call.func))
            inside = source.text[source.end(call.func) : source.end(call)]
            if old:
                text = '("cuda"' + (", " if call.args or call.keywords else "") + inside[1:]
                yield (
                    source,
                    call,
                    [*source.mark(call), Edit(source.path, source.end(call.func), source.end(call), text)],
                )
            elif _device_types(source, call) and len(call.args) == 1 and not call.keywords:
                end = source.end(call) - 1
                yield source, call, [*source.mark(call), Edit(source.path, end, end, ", True")]


@operator("MPA112")
def bce_under_autocast(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Losses of logits become losses of probabilities."""
    for source in tree.sources:
        blocks = _autocast_blocks(source)
        for call in source.calls():
            name = _last(call.func)
            if name == "binary_cross_entropy_with_logits" and any(call in source.calls(b) for b in blocks):
                text = source.code(call.func).replace("_with_logits", "")
                yield source, call, [*source.mark(call), *_unmarked(source, call.func, text)]
            elif name == "BCEWithLogitsLoss" and (target := _assigned(source, call)) is not None:
                uses = [c for b in blocks for c in source.calls(b) if _last(c.func) == _last(target)]
                if uses:
                    text = source.code(call.func).replace("WithLogits", "")
                    marks = _marks((source, use) for use in uses)
                    yield source, call, [*_unmarked(source, call.func, text), *marks]


# --------------------------------------------------------- the scaler as an object


@operator("MPA214")
def scaler_left_out_of_the_checkpoint(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    for source in tree.sources:
        for call in tree.scaler_calls(source, "state_dict"):
            if isinstance(source.parents[call], ast.Subscript):
                continue  # `scaler.state_dict()["scale"]` is there to be logged
            holder = next((n for n in source.above(call) if isinstance(n, ast.Dict | ast.keyword | ast.stmt)), None)
            around = source.function(call)
            saves = [(source, c) for c in source.calls(around) if "save" in _last(c.func).lower()]
            saves = saves or [(s, c) for s in tree.sources for c in s.calls() if _dotted(c.func) == "torch.save"]
            if isinstance(holder, ast.Dict):
                value = next(v for v in holder.values if v is call or call in ast.walk(v))
                grown = [n for n in ast.walk(around) if isinstance(n, ast.Dict) and None in n.keys and n is not holder]
                marks = _marks([*saves, *((source, other) for other in grown)])
                yield source, call, [*_entry_removed(source, holder, value), *source.mark(holder), *marks]
            elif isinstance(holder, ast.keyword):
                yield (
                    source,
                    call,
                    [*source.mark(source.parents[holder]), *_argument_removed(source, holder), *_marks(saves)],
                )
            elif isinstance(holder, ast.Assign):
                names = {_last(t.value) for t in holder.targets if isinstance(t, ast.Subscript)}
                dicts = [
                    (source, node.value)
                    for node in ast.walk(around)
                    if isinstance(node, ast.Assign) and names & {_last(t) for t in node.targets}
                ]
                yield source, call, [*source.drop(holder), *_marks([*saves, *dicts])]


@operator("MPA214")
def scaler_not_loaded(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """What resumes a run no longer loads the scaler's state."""
    for source in tree.sources:
        for call in tree.scaler_calls(source, "load_state_dict"):
            around = source.function(call)
            if not _is_alone(source, call) or getattr(around, "name", "") == "load_state_dict":
                continue
            loads = [c for c in source.calls(around) if _last(c.func) == "load_state_dict" and c is not call]
            yield source, call, [*source.drop(call), *_marks((source, c) for c in loads)]


@operator("MPA201")
def scaler_removed(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """Every use of the scaler in a file becomes what it wraps, and no scaler is made anywhere."""
    for source in tree.sources:
        scaled = tree.scaled_backwards(source)
        if not scaled or not tree.steps(source):
            continue
        edits: list[Edit] = []
        for call in scaled:
            scale = call.func.value  # type: ignore[attr-defined]
            edits += [*source.mark(call), *_unmarked(source, scale, _atom(source, scale.args[0]))]
        for call in tree.steps(source):
            edits += _unmarked(source, call, f"{_optimizer(source, call)}.step()")
        for method in ("update", "unscale_"):
            for call in tree.scaler_calls(source, method):
                edits += _unmarked(source, call, "None")
        for other, call in tree.made:
            edits += _unmarked(other, call, "None")
        yield source, scaled[0], edits


@operator("MPA201")
def scaler_disabled(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """No scaler is enabled, and autocast stays as it is."""
    edits: list[Edit] = []
    for source, call in tree.made:
        given = next((keyword for keyword in call.keywords if keyword.arg == "enabled"), None)
        end = source.end(call) - 1
        comma = ", " if call.args or call.keywords else ""
        edits += (
            _unmarked(source, given.value, "False") if given else [Edit(source.path, end, end, comma + "enabled=False")]
        )
    for source in tree.sources:
        scaled = tree.scaled_backwards(source)
        if scaled and edits and tree.steps(source):
            yield source, scaled[0], [*edits, *_marks([*((source, call) for call in scaled), *tree.made])]


@operator("MPA221", "MPA305")
def half_model(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """`model.train()` of a function with a scaler becomes `model.half().train()`."""
    for source in tree.sources:
        for call in source.calls():
            if isinstance(call.func, ast.Attribute) and call.func.attr == "train" and not call.args:
                around = source.function(call)
                if tree.scaled_backwards(source, around):
                    model = source.code(call.func.value)
                    marks = _marks(
                        (source, c) for c in [*tree.steps(source, around), *tree.scaled_backwards(source, around)]
                    )
                    marks += _marks((source, c) for c in tree.scaler_calls(source, "unscale_", around))
                    yield source, call, [*source.replace(call, f"{model}.half().train()"), *marks]


@operator("MPA222")
def enabled_in_the_first_place(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """`GradScaler(enabled=flag)` becomes `GradScaler(flag)`, whose first argument is a scale or a device."""
    for source, call in tree.made:
        for keyword in call.keywords:
            if keyword.arg == "enabled":
                text = f"{source.code(call.func)}({source.code(keyword.value)})"
                yield source, call, source.replace(call, text)


_FLOAT64 = re.compile(
    r"^(np|numpy)\.(zeros|ones|empty|full|linspace|random\.(rand|randn|random|normal|uniform|standard_normal))$"
)
_TO_TORCH = frozenset({"torch.from_numpy", "torch.tensor", "torch.as_tensor"})


@operator("MPA303")
def float32_left_out(tree: Tree) -> Iterator[tuple[Source, ast.AST, list[Edit]]]:
    """What NumPy makes in float64 goes to torch without its `dtype=np.float32`, `.astype(np.float32)` or `.float()`."""
    for source in tree.sources:
        for call in source.calls():
            if _dotted(call.func) not in _TO_TORCH or not call.args:
                continue
            given, edits = _as_float64(source, call.args[0])
            outer = source.parents.get(source.parents[call])
            if isinstance(outer, ast.Call) and _last(outer.func) == "float" and not outer.args:
                edits = [*edits, Edit(source.path, source.end(call), source.end(outer), "")]
            if given and edits and not any(k.arg == "dtype" for k in call.keywords):
                yield source, call, [*edits, *source.mark(call)]


def _as_float64(source: Source, node: ast.expr) -> tuple[bool, list[Edit]]:
    """Whether an array is one that NumPy makes in float64, and what takes its conversion to float32 away."""
    if isinstance(node, ast.Call) and _last(node.func) == "astype" and isinstance(node.func, ast.Attribute):
        if "float32" not in source.code(node):
            return False, []
        inner = node.func.value
        made, edits = _as_float64(source, inner)
        return made, [*edits, Edit(source.path, source.end(inner), source.end(node), "")]
    if not isinstance(node, ast.Call) or not _FLOAT64.search(_dotted(node.func)):
        return False, []
    dtypes = [keyword for keyword in node.keywords if keyword.arg == "dtype"]
    if any("float32" not in source.code(keyword.value) for keyword in dtypes):
        return False, []
    return True, [edit for keyword in dtypes for edit in _argument_removed(source, keyword)]


# ------------------------------------------------------------------------- helpers


def backwards(source: Source, within: ast.AST | None = None) -> list[ast.Call]:
    return [c for c in source.calls(within) if isinstance(c.func, ast.Attribute) and c.func.attr == "backward"]


def _last(node: ast.AST) -> str:
    """The last name of `a.b.c`, `a.b[0]`, `a.b()`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def _is_scaler_made(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _last(node.func) in ("GradScaler", "ShardedGradScaler")


def _settable(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _settable(node.value))


def _same_scaler(left: ast.Call, right: ast.Call) -> bool:
    return _last(left.func.value) == _last(right.func.value)  # type: ignore[attr-defined]


def _optimizer(source: Source, step: ast.Call) -> str:
    return _atom(source, step.args[0])


def _atom(source: Source, node: ast.expr) -> str:
    """The source of an expression, in parentheses where a method is to be called on it."""
    simple = isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
    return source.code(node) if simple else f"({source.code(node)})"


def _marks(places: Iterable[tuple[Source, ast.AST]]) -> list[Edit]:
    return [edit for source, node in places for edit in source.mark(node)]


def _unmarked(source: Source, node: ast.AST, text: str) -> list[Edit]:
    return [Edit(source.path, source.start(node), source.end(node), text)]


def _is_alone(source: Source, call: ast.Call) -> bool:
    return isinstance(source.parents[call], ast.Expr)


def _first(body: list[ast.stmt]) -> ast.stmt:
    """The first statement after a docstring."""
    docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1
    return body[1] if docstring else body[0]


def _added_after(source: Source, call: ast.Call, text: str) -> list[Edit]:
    """One more call right behind another; within an expression, as one of a pair."""
    if _is_alone(source, call) or isinstance(source.parents[call], ast.Assign | ast.AnnAssign):
        return [*source.after(source.statement(call), marked(text)), *source.mark(call)]
    return source.replace(call, f"({source.code(call)}, {text})")


def _put_before(source: Source, call: ast.Call, text: str) -> list[Edit]:
    if _is_alone(source, call) or isinstance(source.parents[call], ast.Assign | ast.AnnAssign):
        return source.before(source.statement(call), text)
    return _unmarked(source, call, f"({text}, {source.code(call)})")


def _dropped(source: Source, call: ast.Call) -> list[Edit]:
    """Dropped without a mark: what is wrong shows further down."""
    return _unmarked(source, call, "pass" if _is_alone(source, call) else "None")


def _earlier(source: Source, statement: ast.stmt, calls: list[ast.Call]) -> ast.stmt | None:
    """The statement of the last of `calls` before `statement` in its own suite, or in one around it."""
    for call in reversed(calls):
        step = source.statement(call)
        if step.lineno <= statement.lineno and step is not statement:
            suite, _ = source.suite(step)
            if any(a in suite for a in [statement, *source.above(statement)]) and source.function(
                step
            ) is source.function(statement):
                return step
    return None


_ACCUMULATION = re.compile(r"%|accum|need_update|update_grad|grad_acc|sync|micro", re.IGNORECASE)


def _accumulation_guard(source: Source, call: ast.Call) -> ast.If | None:
    """The outermost `if` of the innermost loop around a call that reads like one for every k-th batch and holds no
    backward."""
    found = None
    for outer in source.above(call):
        if isinstance(outer, Loop | Function):
            break
        if (
            isinstance(outer, ast.If)
            and _ACCUMULATION.search(source.code(outer.test))
            and not backwards(source, outer)
            and source.own_lines(outer)
            and source.text.startswith("if", source.start(outer))
            and call in source.calls(_as_body(outer))
        ):
            found = outer
    return found


def _as_body(branch: ast.If) -> ast.Module:
    return ast.Module(branch.body, [])


def _clips(source: Source, within: ast.AST) -> list[ast.Call]:
    """Calls that bound or measure gradients, by their names."""
    return [c for c in source.calls(within) if re.search(r"clip|grad.*norm|norm.*grad|^agc", _last(c.func))]


def _names_of_autocasts(source: Source) -> set[str]:
    return {
        _last(target)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign) and re.search(r"\bautocast\b", source.code(node.value))
        for target in node.targets
    } - {""}


def _blocks(source: Source) -> list[ast.With]:
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.With)]


def _is_autocast(source: Source, node: ast.expr, names: set[str]) -> bool:
    return re.search(r"autocast", source.code(node)) is not None or _last(node) in names


def _autocast_item(block: ast.With) -> ast.expr:
    for item in block.items:
        if "autocast" in ast.unparse(item.context_expr):
            return item.context_expr
    return block.items[-1].context_expr


def _autocast_blocks(source: Source) -> list[ast.With]:
    names = _names_of_autocasts(source)
    blocks = [b for b in _blocks(source) if any(_is_autocast(source, i.context_expr, names) for i in b.items)]
    return [b for b in blocks if not re.search(r"enabled\s*=\s*False", source.code(_autocast_item(b)))]


def _autocast_calls(source: Source) -> list[ast.Call]:
    calls = [c for c in source.calls() if _last(c.func) == "autocast"]
    off = re.compile(r"enabled\s*=\s*False|^\s*\(\s*False")
    return [c for c in calls if not off.search(source.text[source.end(c.func) : source.end(c)])]


def _device_types(source: Source, only: ast.Call | None = None) -> list[tuple[ast.Call, ast.expr]]:
    """The device argument of each `torch.autocast`, `torch.amp.autocast`."""
    found: list[tuple[ast.Call, ast.expr]] = []
    for call in [only] if only is not None else _autocast_calls(source):
        given = next((k.value for k in call.keywords if k.arg == "device_type"), call.args[0] if call.args else None)
        modern = re.search(r"(^|\btorch\.|\btorch\.amp\.)autocast$", source.code(call.func))
        old = "cuda.amp" in source.code(call.func) or re.search(r"cuda\.amp import .*autocast", source.text)
        text = isinstance(given, ast.Constant) and isinstance(given.value, str)
        if given is not None and modern and not old and (text or isinstance(given, ast.Attribute)):
            found.append((call, given))
    return found


def _header(source: Source, block: ast.With, before: str, head: str) -> list[Edit]:
    """Another head for a block, and a line before it."""
    colon = source.text.rindex(":", source.start(block), source.start(block.body[0]))
    last = block.items[-1].optional_vars or block.items[-1].context_expr
    colon = source.text.index(":", source.end(last))
    edits = source.before(block, before) if before else []
    return [*edits, Edit(source.path, source.start(block), colon, head)]


def _assigned(source: Source, call: ast.Call) -> ast.expr | None:
    parent = source.parents[call]
    return parent.targets[0] if isinstance(parent, ast.Assign) else None


def _made_in(source: Source) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Scalers made and assigned in a file: the call and its target."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign) and _is_scaler_made(node.value):
            assert isinstance(node.value, ast.Call)
            yield node.value, node.targets[0]


def _entry_removed(source: Source, holder: ast.Dict, value: ast.expr) -> list[Edit]:
    number = holder.values.index(value)
    key = holder.keys[number]
    start = source.start(key) if key is not None else source.text.rindex("**", 0, source.start(value))
    return [Edit(source.path, start, _past_comma(source, source.end(value)), "")]


def _argument_removed(source: Source, keyword: ast.keyword) -> list[Edit]:
    return [Edit(source.path, source.start(keyword), _past_comma(source, source.end(keyword)), "")]


def _past_comma(source: Source, end: int) -> int:
    comma = re.compile(r"\s*,").match(source.text, end)
    return comma.end() if comma else end
