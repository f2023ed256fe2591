"""How large a batch fits under autocast, as it was tried → blocks."""

from __future__ import annotations

from collections.abc import Iterator

from mpaudit.measured import BatchSearch, BatchTrial
from mpaudit.render.blocks import Block, Heading, Sentence, Table
from mpaudit.render.evidence import bytes_


def blocks(search: BatchSearch | None) -> Iterator[Block]:
    if search is None:
        return
    yield Heading("Batch size")
    yield Sentence(sentence(search), style="" if search.largest else "doubt")
    if search.trials:
        rows = tuple((one.variant, str(one.batch), _held(one), _fate(one)) for one in search.trials)
        yield Table(("precision", " batch", " holds", ""), rows)
    if any(one.bytes is not None for one in search.trials):
        measure = "tensors held at the largest backward pass" if search.limit_bytes else "the most that was allocated"
        yield Sentence(f"Holds: {measure} of a step, in a run of two steps each.", style="dim")


def sentence(search: BatchSearch) -> str:
    """«A batch of 176 fits under amp-bf16 in what fp32 holds with 64 (--batch-size, as given): 2.75 times as many.»"""
    under = [one for one in search.trials if one.variant == search.variant]
    if search.argument is None or search.batch is None or not under:
        return f"Not tried: {search.why}."
    origin = "as given" if search.given else "its default"
    where = (
        f"in what fp32 holds with {search.batch} ({search.argument}, {origin})"
        if search.limit_bytes is not None
        else f"on this device, where {search.argument} is {search.batch} ({origin})"
    )
    if search.largest is None:
        text = f"No batch was seen to fit under {search.variant} {where}"
    elif search.largest == search.batch:
        text = f"No larger batch than {search.batch} fits under {search.variant} {where}"
    else:
        text = f"A batch of {search.largest} fits under {search.variant} {where}: "
        text += f"{search.largest / search.batch:.3g} times as large"
    return f"{text}; {search.why}." if search.why else f"{text}."


def _held(one: BatchTrial) -> str:
    return "" if one.bytes is None else bytes_(one.bytes)


def _fate(one: BatchTrial) -> str:
    if one.fate == "failed" or (one.fate == "too large" and one.bytes is None):
        return one.sentence
    return {"fits": "", "too large": "too large", "no larger": "no more than half of it"}[one.fate]
