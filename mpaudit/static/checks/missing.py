"""MPA101: where autocast is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from mpaudit.model import Confidence

from ..program.definitions import Site
from ..program.networks import Nature, Network, is_idle
from ..program.trace import Step, Trace
from ..program.values import Use
from .draft import Draft, Seen, is_aside, is_test, name_of
from .heads import frozen_beside, is_head, is_linear


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A loop that trains on CUDA in float32 whatever is decided."""

    loops: tuple[Hashable, ...]
    use: Use
    """The forward that autocast would make faster."""
    backward: Site
    waits: bool
    """It most likely waits for something else than the device's arithmetic, or has no other dtype."""
    head: str = ""
    """What is trained on the features of the forward, which is frozen."""


def missing_autocast(seen: Seen) -> Iterator[Draft]:
    """MPA101: a CUDA training loop whose forward runs in fp32 whatever is decided."""
    done: list[tuple[Hashable, ...]] = []
    sites: set[Site] = set()
    found = () if seen.sciences else _uncovered(seen)
    for loop in sorted(found, key=lambda f: (f.use.site, f.backward, f.waits)):
        if loop.use.site in sites or any(_one_loop(loop.loops, other) for other in done):
            continue  # the networks of a GAN take turns in one loop: one place to mend
        sites.add(loop.use.site)
        done.append(loop.loops)
        name = seen.trace.called.get(loop.use.site) or name_of(seen.trace, loop.use.module, "the model")
        confidence = Confidence.POSSIBLE if loop.waits else Confidence.LIKELY
        related = ((loop.backward, "backward of its loss"),)
        if loop.head:
            yield Draft(
                "MPA101", loop.use.site,
                f"{name} is frozen and runs on CUDA in float32 without autocast for every batch that {loop.head} is "
                "trained on: nearly all of the time goes into that forward, which is usually 1.5 to 3 times slower "
                "than it would be in 16 bits",
                "run the frozen forward under torch.autocast(\"cuda\", dtype=torch.bfloat16) and give the head "
                "features.float()", confidence, related,
            )  # fmt: skip
            continue
        apart = any(loss.basis.root == root for loss in seen.trace.losses for root in _roots(loop, seen.trace))
        warps, solves = seen.networks.wants_digits(frozenset((loop.use.site.path, loop.backward.path)))
        yield Draft(
            "MPA101", loop.use.site,
            f"{name} is trained on CUDA in float32 without autocast, which usually makes its steps 1.5 to 3 times "
            "slower than 16 bits on tensor cores would be, and its activations twice as large",
            "run the forward and the loss under torch.autocast(\"cuda\", dtype=torch.bfloat16)"
            + ("; autocast forbids binary_cross_entropy: give it logits (binary_cross_entropy_with_logits)" * apart)
            + ("; multiply pixel coordinates in float32: bfloat16 holds whole numbers up to 256 only" * warps)
            + ("; cast to float32 what is inverted or decomposed, which has no 16-bit kernels" * solves),
            confidence, related,
        )  # fmt: skip


def _roots(loop: Uncovered, trace: Trace) -> set[int]:
    return {step.basis.root for step in trace.steps if step.backward == loop.backward}


def _uncovered(seen: Seen) -> Iterator[Uncovered]:
    trace = seen.trace
    losses: dict[Site, list[tuple[bool, Step]]] = {}
    covered: set[Site] = set()
    for step in trace.steps:
        if step.backward is None or step.basis.exceptional:
            continue
        clean = (  # a loss that is lost track of on one path says nothing, whatever another path says of it
            step.scaler is None and step.half is None and (step.loss is None or step.loss.scaled is None)
            and not step.casts
            and step.basis.root in trace.cuda_roots and bool(step.loops)
            and step.basis.root not in trace.owned_roots and step.optimizer not in trace.loose
        )  # fmt: skip
        losses.setdefault(step.backward, []).append((clean, step))
    for backward in trace.backwards:
        if backward.loss is not None and backward.loss.uses:
            covered |= {use.site for use in backward.loss.uses if use.casts is None or use.casts}
    for at, entries in sorted(losses.items()):
        if at in seen.rehearsals or not all(clean for clean, _ in entries):
            continue
        steps = [step for _, step in entries]
        uses = {use for step in steps if step.loss is not None for use in step.loss.uses or ()}
        if (
            not uses
            or any(use.module in trace.lowered for use in uses)
            or any(use.casts is None or use.casts or use.site in covered for use in uses)
        ):
            continue
        made = {trace.made[step.optimizer].site.path for step in steps if step.optimizer in trace.made}
        roots = {trace.scripts.get(step.basis.root, "") for step in steps}
        around = made | roots | {at.path}
        first = _primary(uses, seen, frozenset(m for step in steps for m in step.trained), around)
        if first is None or is_test(first.site) or is_aside(first.site) or _in_tf32(first.site, seen.tf32):
            continue
        head = ""
        beside = frozen_beside(uses, steps, trace) if is_head(first.module, trace) else []
        if beside:
            backbones = sorted(
                (f.use for f in beside if not is_head(f.use.module, trace)),
                key=lambda use: (use.site, repr(use.module)),
            )
            if not backbones or any(f.use.casts != () for f in beside):
                continue  # a dense head on features from autocast, or of a network that is not in sight
            head = trace.called.get(first.site) or name_of(trace, first.module, "a head")
            first = backbones[0]
        places = {first.site.path, at.path, trace.sources.get(first.module, "")}
        if (places | made) & seen.low_precision or (places | made | roots) & seen.toys:
            continue
        source = trace.sources.get(first.module, "")
        waits = bool(
            (not head and _is_out_of_sight(first, around | places, seen))
            or at in seen.trials
            or at in seen.untold
            or (places | roots) & seen.aged
            or (places | made | roots) & seen.on_cpu
            or ((places | made | roots) & seen.graphs and not _network(first, set(), seen).convolves_images)
            or _homes(first, trace, places | made | roots) & seen.kernels
            or (places | made | roots) & (seen.simulators | seen.spectra | seen.volumes)
            or source in seen.stepwise
            or (places | made) & (seen.tables | seen.searches)
            or (not head and is_linear(first.module, trace))
            or (not head and not _is_told(uses, places | made | roots, seen))
            or (_is_light({first}, set(), seen) if head else _is_light(uses, places | made | roots, seen))
        )  # fmt: skip
        yield from (Uncovered(step.loops, first, at, waits, head) for step in steps)


def _homes(use: Use, trace: Trace, files: set[str]) -> set[str]:
    """The files of the classes that a network is made of; `files` where it is not in sight, or stands in a wrapper that
    may hold more."""
    classes = trace.made_of.get(use.module, frozenset())
    homes = {cls.module.path for cls in classes} | {trace.sources.get(use.module, "")} - {""}
    return homes if homes and not any("Parallel" in cls.name for cls in classes) else homes | files


def _is_light(uses: Iterable[Use], files: set[str], seen: Seen) -> bool:
    """Whether no forward of the loop holds enough arithmetic for its dtype to matter; `files` speak for what is not in
    sight."""
    networks = [_network(use, files, seen) for use in _told_apart(uses, seen.trace) if not _is_loss(use, seen.trace)]
    small, shrinks = bool(files & seen.small_images), bool(files & seen.shrinking)
    narrow = (small and bool(files & (seen.small_nets | seen.small_batches))) or bool(files & seen.narrow_nets)
    stored, recurrent = bool(files & seen.features), bool(files & seen.recurrent)
    return narrow or all(
        n.is_light
        or n.is_unstated
        or (small and n.is_narrow)
        or (shrinks and n.nature in _SHRUNK)
        or (stored and n.is_head_sized)
        or (recurrent and not n.in_sight)
        for n in networks
    )


def _is_told(uses: Iterable[Use], files: set[str], seen: Seen) -> bool:
    """Whether what decides the gain is told: a program that takes options trains networks for images, or of a library,
    that are all in sight, or that it names images or weights of usual size for. Where it is not told, autocast gained
    clearly in one of three cases only. A file by itself is taken for what it is."""
    if not seen.networks.are_elsewhere:
        return True
    takes_options, usual_size = seen.networks.told_by(frozenset(files))
    networks = [_network(use, files, seen) for use in uses if not _is_loss(use, seen.trace)]
    of_images = any(network.sees_images or network.nature is Nature.LIBRARY for network in networks)
    return takes_options and of_images and (usual_size or all(network.in_sight for network in networks))


def _told_apart(uses: Iterable[Use], trace: Trace) -> list[Use]:
    """The forwards without those of a network that is not in sight, where one of the same name is."""
    all_uses = list(uses)
    known = {name_of(trace, use.module, "") for use in all_uses if trace.made_of.get(use.module)} - {""}
    return [use for use in all_uses if trace.made_of.get(use.module) or name_of(trace, use.module, "") not in known]


def _is_out_of_sight(use: Use, files: set[str], seen: Seen) -> bool:
    """Whether nothing of a network is known, nor anything that the files hold of networks."""
    known = seen.trace.made_of.get(use.module) or not seen.networks.are_elsewhere
    return not known and _network(use, files, seen).nature is Nature.UNKNOWN


_SHRUNK = (Nature.DENSE, Nature.LIBRARY)
"""A network that leaves next to nothing of small images, and the heads on it."""


def _network(use: Use, files: set[str], seen: Seen) -> Network:
    trace = seen.trace
    if files and use.module in trace.sources:
        files = files | {trace.sources[use.module]}
    layers, made_of = trace.layers.get(use.module, frozenset()), trace.made_of.get(use.module, frozenset())
    found = seen.networks.of(layers, made_of, frozenset(files))
    if found.nowhere and (users := seen.networks.users_of(use.site)):
        return seen.networks.of(layers, made_of, frozenset(files | users))
    return found


def _one_loop(a: tuple[Hashable, ...], b: tuple[Hashable, ...]) -> bool:
    """The same loop, or one inside the other."""
    short = min(len(a), len(b))
    return a[:short] == b[:short]


def _in_tf32(site: Site, folders: frozenset[str]) -> bool:
    here = os.path.dirname(site.path)
    return any(_is_below(here, folder) or _is_below(folder, here) for folder in folders)


def _is_below(folder: str, other: str) -> bool:
    return folder == other or not other or folder.startswith(other + os.sep)


def _primary(uses: set[Use], seen: Seen, trained: frozenset[Hashable], files: set[str]) -> Use | None:
    """The forward of the trained model: not that of a loss module, nor, where there is another, of one with next to no
    arithmetic, of what the optimizer does not train or what prepares a batch, or of a penalty on gradients, which one
    may want in float32."""
    trace = seen.trace
    ranked = sorted(
        (use for use in uses if use.module is not None),
        key=lambda use: (
            _is_loss(use, trace) or _is_beside(use, trace, trained),
            any(_is_method_beside(use, other, trace) for other in uses),
            _network(use, files | {use.site.path}, seen).is_light,
            bool(trained) and use.module not in trained,
            bool(_PREPARES.search(name_of(trace, use.module, ""))),
            bool(_FOLLOWS.search(name_of(trace, use.module, ""))),
            use.site in trace.differentiated, use.site, repr(use.module),
        ),
    )  # fmt: skip
    best = ranked[0] if ranked else None
    return None if best is None or _is_loss(best, trace) or _is_beside(best, trace, trained) else best


def _is_method_beside(use: Use, other: Use, trace: Trace) -> bool:
    """`model.mask(x)`, or `model.encoder(x)`, where `model(x)` is the forward; not `model.forward_features(x)`."""
    called, forward = trace.called.get(use.site, ""), trace.called.get(other.site, "")
    return bool(forward) and called.startswith(f"{forward}.") and "forward" not in called


def _is_beside(use: Use, trace: Trace, trained: frozenset[Hashable]) -> bool:
    """A norm or an activation alone, or a fixed network that says how far images are apart, by its name."""
    if not trace.made_of.get(use.module) and is_idle(trace.layers.get(use.module, frozenset())):
        return True
    return use.module not in trained and bool(_FIXED.search(name_of(trace, use.module, "")))


_FIXED = re.compile(r"(?i)vgg|lpips|percep")


_FOLLOWS = re.compile(r"(?i)(^|[._])(ema|momentum|teacher|target|frozen)(_|$)|_(ema|momentum|m|teacher|target|frozen)$")
"""Copies that follow a network at a distance, or stand still, and are not trained themselves."""


_PREPARES = re.compile(r"(?i)augment|preprocess|mixup|stft|mel_?spec|normali[sz]er?$")


def _is_loss(use: Use, trace: Trace) -> bool:
    lowered = name_of(trace, use.module, "").lower()
    made = trace.layers.get(use.module, frozenset())
    of_torch = len(made) == 1 and all(name.endswith("Loss") for name in made)
    return of_torch or any(word in lowered for word in ("criterion", "loss", "crit", "metric"))
