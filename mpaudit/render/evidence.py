"""What the evidence runs gave → blocks: ops by line or otherwise, memory by category, loss scaling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import log2

import msgspec

from mpaudit.audit import Audit
from mpaudit.measured import ComparedOps, Evidence, FirstOverflow, LossScaling, OpTable, OpTotals
from mpaudit.render.blocks import Block, Heading, Items, Sentence, Table

BY = ("line", "op", "module", "shape")
SHOWN = 15
"""Rows of a table; the document has them all."""
LEAST = 0.01
"""Of the op time of one of both precisions: rows with less are told as one."""

_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
_ALL = "; of none is it known whether autocast would keep it in float32, as no run was under autocast."
_TITLES = {"line": "Ops by line", "op": "Ops", "module": "Ops by module", "shape": "Ops by shape"}


def blocks(audit: Audit, by: str) -> Iterator[Block]:
    """Nothing for an Audit without evidence, and no table beside a precision in which nothing was computed."""
    evidence = audit.evidence
    if evidence is None:
        return
    empty = {run.variant for run in audit.runs if run.nothing}
    tables = tuple(table for table in evidence.tables if not empty & {table.baseline, table.variant})
    evidence = msgspec.structs.replace(evidence, tables=tables)
    for table in evidence.tables:
        if table.by in (by, "op" if by == "line" else by):
            yield from _ops(table)
    yield from _sums(evidence)
    yield from _tensor_cores(evidence)
    yield from _memory(evidence, tried=audit.profile is not None and audit.profile.batch_search is not None)
    yield from _scaling(evidence)
    if evidence.traces is not None:
        yield Heading("Traces")
        yield Sentence(
            f"tensorboard --logdir {evidence.traces} shows them where torch-tb-profiler is installed, each precision "
            "as a run; Perfetto and Chrome open the files in it.",
        )


def _ops(table: OpTable) -> Iterator[Block]:
    """With the calls where rows are of an op, with the casts where they are of several."""
    yield Heading(f"{_TITLES[table.by]}: {table.variant} beside {table.baseline}")
    one_op = table.by in ("op", "shape")
    on_gpu = any(row.tensor_cores is not None for row in table.rows)
    kept, others = _notable(table.rows)
    folder = _folder(row.path for row in kept)
    rows = [
        (
            _name(table.by, row, folder),
            " ".join(_DTYPES.get(dtype, dtype) for dtype in row.dtypes),
            f"{row.calls:.3g}" if one_op else _ms(row.cast_ms),
            _ms(row.baseline_ms),
            _ms(row.variant_ms),
            _ratio(row),
            _ms(row.float32_ms),
            *((row.tensor_cores or "",) if on_gpu else ()),
        )
        for row in kept
    ]
    if others:
        sums = [sum(getattr(row, name) for row in others) for name in ("baseline_ms", "variant_ms", "float32_ms")]
        middle = f"{sum(row.calls for row in others):.3g}" if one_op else _ms(sum(row.cast_ms for row in others))
        texts = (_ms(sums[0]), _ms(sums[1]), "", _ms(sums[2]))
        rows.append((f"({len(others)} others)", "", middle, *texts, *(("",) if on_gpu else ())))
    headers = (
        *("op and shapes" if table.by == "shape" else table.by, "dtype", " calls" if one_op else " cast ms"),
        *(f" {table.baseline} ms", f" {table.variant} ms", " op-time ratio", " in fp32"),
    )
    yield Table((*headers, *(("tensor cores",) if on_gpu else ())), tuple(rows))


def _notable(rows: Sequence[ComparedOps]) -> tuple[list[ComparedOps], list[ComparedOps]]:
    """Those to be shown, in their order, and the others. What has no line is always shown."""
    before = LEAST * sum(row.baseline_ms for row in rows)
    after = LEAST * sum(row.variant_ms for row in rows)
    notable: list[ComparedOps] = []
    others: list[ComparedOps] = []
    for row in rows:
        enough = not row.path or row.baseline_ms >= before or row.variant_ms >= after
        (notable if enough and len(notable) < SHOWN else others).append(row)
    return notable, others


def _folder(paths: Iterable[str]) -> str:
    """That all files lie in, with its slash: not repeated in every row."""
    folders = {path.rpartition("/")[0] for path in paths if path}
    (common,) = folders if len(folders) == 1 else ("",)
    return f"{common}/" if common else ""


def _name(by: str, row: ComparedOps, folder: str) -> str:
    op = row.op.removeprefix("aten::")
    if by == "line":
        return f"{row.path.removeprefix(folder)}:{row.line}" if row.path else "(unattributed)"
    if by == "module":
        return row.module or "(outside of modules)"
    return op if by == "op" else f"{op} {_shapes(row)}"


def _sums(evidence: Evidence) -> Iterator[Block]:
    if not evidence.totals:
        return
    if not evidence.tables:
        yield Heading("Ops")
    yield Items(tuple(map(_sum, evidence.totals)))
    if not evidence.tables:
        return
    yield Sentence(
        "Time of ops under a profiler, medians over all profiled steps; ratios are of op times, not of steps, with the "
        "quartiles of the steps as their spread, blank where that holds 1 or fewer than ten steps in two runs were "
        "profiled. In fp32: forward and backward time of the second precision that is still spent in float32. "
        "Rows with "
        "less than 1 % of the op time of both are summed up as others. Compiled regions ran eagerly here.",
        style="dim",
    )


def _sum(total: OpTotals) -> str:
    text = f"{total.variant}: ops sum up to {_ms(total.ops_ms)} ms"
    if total.step_ms is not None:
        text += f" in a step that takes {_ms(total.step_ms)} ms without a profiler"
    return text + f"; {100 * total.attributed:.1f} % of it has a line of yours"


def _tensor_cores(evidence: Evidence) -> Iterator[Block]:
    if evidence.without_tensor_cores:
        yield Heading("Products of matrices without tensor cores")
        rows = [
            (one.variant, f"{one.path}:{one.line}", one.op.removeprefix("aten::"), _ms(one.ms), one.reason, one.text)
            for one in evidence.without_tensor_cores[:SHOWN]
        ]
        yield Table(("precision", "line", "op", " ms", "reason", ""), tuple(rows))


def _memory(evidence: Evidence, tried: bool) -> Iterator[Block]:
    if not evidence.memory:
        return
    yield Heading("Memory held at the largest backward pass")
    rows = tuple(
        (
            held.variant,
            *map(bytes_, (held.parameters, held.gradients, held.optimizer_state, held.activations, held.casts)),
        )
        for held in evidence.memory
    )
    headers = ("precision", " parameters", " gradients", " optimizer", " activations", " casts")
    yield Table(headers, rows)
    baseline = evidence.memory[0].variant
    for held in evidence.memory[1:]:
        if held.batch_ratio is not None:
            yield Sentence(
                f"In what {baseline} holds, {held.variant} would hold a batch about {held.batch_ratio:.2g} times as "
                "large: an estimate from this table (activations and casts grow with the batch)"
                + ("." if tried else ", not tried; --find-batch-size tries it.")
            )


def _scaling(evidence: Evidence) -> Iterator[Block]:
    """What the first precision gave, whose gradients have lost nothing yet; another one only where it disagrees."""
    if not evidence.loss_scaling:
        return
    first, *rest = evidence.loss_scaling
    yield Heading("Loss scaling")
    yield Sentence(first.sentence, style="doubt" if first.needed else "")
    for one in rest:
        if one.needed != first.needed:
            yield Sentence(one.sentence, _label(one), "doubt")
    history = [text for one in evidence.loss_scaling for text in _history(one)]
    if history:
        yield Items(tuple(history))
    yield from _modules(first, any(one.variant.startswith("amp-") for one in evidence.loss_scaling))
    agreeing = [_label(one) for one in rest if one.needed == first.needed]
    if agreeing:
        yield Sentence(f"From the gradients of {_label(first)}; those of {' and '.join(agreeing)} agree.", style="dim")
    yield from _sizes(first)
    yield from _weights(first)


def _history(one: LossScaling) -> Iterator[str]:
    """What the loss scaler of a precision did, and where it met its first overflow."""
    if not one.scaler:
        return
    skipped = [step for step in one.scaler if step.skipped]
    text = f"{_label(one)}: the loss scale was {_power(one.scaler[0].scale)} at the start"
    if one.scaler[-1].scale != one.scaler[0].scale:
        text += f" and {_power(one.scaler[-1].scale)} at the last of {len(one.scaler)} steps"
    if not skipped:
        yield text + "; no step was left out"
        return
    scales = " and ".join(dict.fromkeys(_power(step.scale) for step in skipped))
    yield text + f"; {len(skipped)} {'step was' if len(skipped) == 1 else 'steps were'} left out, at {scales}"
    if any(not step.loss_finite for step in skipped):
        yield f"{_label(one)}: the loss itself was not finite in a step that was left out: no loss scale mends that"
    if one.overflow is not None:
        yield f"{_label(one)}: {_first_overflow(one.overflow)}"
    elif not one.emulated and any(step.loss_finite for step in skipped):
        yield (
            f"{_label(one)}: where it overflowed is not known: it is looked for in the first steps and the last two, "
            "of which no time is taken; --emulate, on a CPU, looks at all"
        )


def _first_overflow(seen: FirstOverflow) -> str:
    op = seen.op.removeprefix("aten::")
    what = "a rounding to 16 bits" if op == "_to_copy" else op
    where = f"of {seen.path}:{seen.line}" if seen.path else "that no line of yours is known for"
    text = f"the first overflow, in step {seen.step + 1}, was {what} in the "
    text += f"{'backward' if seen.backward else 'forward'} pass {where}"
    return text + (f"; the first parameter it reached was {seen.parameter}" if seen.parameter else "")


_RANGES = (
    ("< 2^-25", -(10**6), -25),
    ("2^-25 … 2^-14", -25, -14),
    ("2^-14 … 2^-4", -14, -4),
    ("2^-4 … 2^6", -4, 6),
    ("2^6 … 2^16", 6, 16),
    ("≥ 2^16", 16, 10**6),
)
"""Of gradients without a loss scale: lost in float16, fewer bits, three ranges that it holds in full, too large."""


def _sizes(seen: LossScaling) -> Iterator[Block]:
    """The histograms, by the ranges of float16."""
    rows = []
    for one in seen.sizes:
        total = sum(one.binades.values()) or 1
        shares = [
            sum(count for exponent, count in one.binades.items() if low <= exponent < high) / total
            for _, low, high in _RANGES
        ]
        cells = (_percent(share) if share else "" for share in shares)
        rows.append((f"{one.kind}s, {'last' if one.late else 'first'} steps", *cells))
    if rows:
        yield Table(("gradients of", *(f" {name}" for name, _, _ in _RANGES)), tuple(rows))
        yield Sentence(
            f"How large the non-zero gradients of {_label(seen)} are: float16 makes those below 2^-25 zero, takes bits "
            "from those below 2^-14, and has none from 2^16 on. A loss scale of 2^k moves all by k.",
            style="dim",
        )


def _weights(seen: LossScaling) -> Iterator[Block]:
    if seen.masters_fp16 is None or seen.masters_bf16 is None:
        return
    needed = [name for name, is_ in (("float16", seen.masters_fp16), ("bfloat16", seen.masters_bf16)) if is_]
    verdict = f"are needed beside {' and '.join(needed)} ones" if needed else "are not needed beside 16-bit ones"
    ratio = ""
    if seen.update_ratio is not None:
        ratio = (
            f"A step moves a parameter by {seen.update_ratio:.1e} of its norm (median); half a unit in the last place "
            f"of a weight is 2.4e-04 to 4.9e-04 of it in float16, 2.0e-03 to 3.9e-03 in bfloat16. "
        )
    yield Sentence(
        f"Weights in float32 {verdict}: {_percent(seen.lost_updates_fp16)} of the changes that the optimizer makes "
        f"would be lost to rounding in float16, {_percent(seen.lost_updates_bf16)} in bfloat16. {ratio}".rstrip()
    )


def _power(scale: float) -> str:
    exponent = log2(scale) if scale > 0 else 0.5
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:g}"


def _label(one: LossScaling) -> str:
    return f"{one.variant} (emulated)" if one.emulated else one.variant


def _modules(seen: LossScaling, autocast: bool) -> Iterator[Block]:
    rows = tuple(
        (
            one.module,
            one.kind,
            _percent(one.zero),
            _percent(one.subnormal),
            _percent(one.infinite),
            f"2^{one.smallest} … 2^{one.largest}" if one.smallest <= one.largest else "none",
        )
        for one in seen.modules[:SHOWN]
    )
    if rows:
        headers = ("module", "gradients of", " become zero", " lose bits", " overflow", "scales that keep them")
        yield Table(headers, rows)
        yield Sentence(
            "What float16 makes of the non-zero gradients without a loss scale"
            + ("; those that stay float32 under autocast are left out." if autocast else _ALL),
            style="dim",
        )


def _ratio(row: ComparedOps) -> str:
    if row.ratio is None or row.spread is None:
        return ""
    value, low, high = (f"{one:.2f}" if one < 10 else f"{one:.1f}" for one in (row.ratio, *row.spread))
    return f"{value}× [{low}, {high}]"


def _shapes(row: ComparedOps) -> str:
    return " ".join("×".join(map(str, shape)) for shape in row.shapes)


def _ms(milliseconds: float) -> str:
    if milliseconds == 0:
        return ""
    if milliseconds < 0.1:
        return f"{milliseconds:.3f}" if milliseconds >= 0.001 else "< 0.001"
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _percent(share: float) -> str:
    return "0 %" if share == 0 else "< 0.01 %" if share < 1e-4 else f"{100 * share:.3g} %"


def bytes_(number: int) -> str:
    if number >= 2**20:
        return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
    return f"{number / 2**10:.1f} KiB" if number else "0"
