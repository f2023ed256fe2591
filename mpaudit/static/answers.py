"""What the analysis of some files that belong together says: a function of those files alone, and cached as one."""

from __future__ import annotations

import msgspec

from mpaudit.model import Confidence, Location, Related, Severity

from .facts import ir
from .tasks import Task


class Part(msgspec.Struct, array_like=True, frozen=True):
    """A file as the analysis gets it; its path is the one below the project's root."""

    path: str
    parts: tuple[str, ...]
    is_package: bool
    outline: ir.Outline
    chunks: tuple[tuple[ir.Unit, tuple[ir.Stmt, ...] | None], ...]


class Question(msgspec.Struct, array_like=True, frozen=True):
    parts: tuple[Part, ...]
    target_torch: tuple[int, ...] | None
    target_device: str | None
    sciences: bool
    name: str
    """That of the project's folder."""


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A finding before its rule's page and the user's settings are joined to it; paths are below the root."""

    code: str
    place: Location
    message: str
    remedy: str
    confidence: Confidence
    related: tuple[Related, ...]
    severity: Severity | None


def answer(question: Question) -> tuple[Stored, ...]:
    """All findings of all codes."""
    from .checks import CODES, Seen, Target, check
    from .program.analysis import follow
    from .program.definitions import ModuleInfo, Site
    from .program.keeping import given_in_vain, never_loaded, never_saved, resuming_loads, saved_otherwise
    from .program.kernels import kernel_files
    from .program.linker import Project
    from .program.lowering import lowering_files
    from .program.networks import Networks
    from .program.noise import trains_on_noise
    from .program.processes import together
    from .program.resting import untold
    from .program.resuming import resumable
    from .program.sizes import FEW, VERY_FEW, shrinks_images, small_batches, starts_narrow
    from .program.traits import (
        aged_files,
        compute_dtypes,
        computes_in_float64,
        cpu_files,
        feature_files,
        graph_files,
        low_precision_files,
        modules_cast,
        option_defaults,
        recurrent_files,
        rehearsals,
        search_files,
        self_checks,
        set_for_a_while,
        simulator_files,
        small_image_files,
        small_net_files,
        spectral_files,
        stepwise_files,
        table_files,
        toy_files,
        trials,
        turns_tf32_on,
        version_shims,
        volume_files,
    )
    from .program.unset import unset_scalers

    def place(site: Site) -> Location:
        return Location(site.path, site.line, site.column, site.end_line, site.end_column)

    modules = (ModuleInfo(p.path, p.parts, p.is_package, p.outline, p.chunks) for p in question.parts)
    project = Project(modules, question.name)
    trace = follow(project)
    # one that a function makes may be handed on and entered where no path was followed to
    left_alone = {site for site in trace.casts_on - trace.casts_entered if project.function_at(site) is None}
    entered = trace.casts_on - left_alone
    seen = Seen(
        trace=trace,
        networks=Networks(project),
        target=Target(question.target_torch, question.target_device),
        sciences=question.sciences or computes_in_float64(project),
        tf32=turns_tf32_on(project),
        shims=version_shims(project),
        simulators=simulator_files(project),
        low_precision=low_precision_files(project),
        lowering=lowering_files(project) if trace.scaled else frozenset(),
        casting=together(project, {site.path for site in entered}) if trace.scaled else frozenset(),
        names_grad_scaler=any("GradScaler" in module.names for module in project.modules.values()),
        compute_dtypes=compute_dtypes(project, trace),
        modules_cast=modules_cast(project, trace),
        small_images=small_image_files(project),
        kernels=kernel_files(project),
        rehearsals=rehearsals(project, trace),
        stepwise=stepwise_files(project),
        tables=table_files(project),
        features=feature_files(project),
        aged=aged_files(project),
        recurrent=recurrent_files(project),
        searches=search_files(project),
        toys=toy_files(project),
        small_nets=small_net_files(project) | starts_narrow(project, FEW),
        narrow_nets=starts_narrow(project, VERY_FEW),
        shrinking=shrinks_images(project),
        small_batches=small_batches(project),
        spectra=spectral_files(project),
        volumes=volume_files(project),
        on_cpu=cpu_files(project),
        untold=untold(project, trace),
        graphs=graph_files(project),
        defaults=option_defaults(project),
        trials=trials(project, trace) | trains_on_noise(project, trace),
        self_checks=self_checks(project, trace),
        resumable=resumable(project, trace),
        homes={saved.site: project.function_at(saved.site) for saved in trace.saved},
        saved_otherwise=saved_otherwise(project, trace),
        unset=unset_scalers(project, trace) if trace.saved else frozenset(),
        never_saved=never_saved(project) if trace.saved else (),
        never_loaded=never_loaded(project) if trace.saved else (),
        in_vain=given_in_vain(project) if any(made.kind == "scaler" for made in trace.made.values()) else (),
        resuming_loads=resuming_loads(project) if trace.saved else (),
        for_a_while=set_for_a_while(project, trace),
    )
    found = {
        Stored(
            draft.code,
            place(draft.site),
            draft.message,
            draft.remedy,
            draft.confidence,
            tuple(Related(place(site), text) for site, text in draft.related if site is not None),
            draft.severity,
        )
        for draft in check(seen, CODES)
    }
    return tuple(sorted(found, key=lambda s: (s.place, s.code, s.message, s.related)))


ANSWER = Task[Question, tuple[Stored, ...]](
    __name__,
    "answer",
    Question,
    tuple[Stored, ...],
    "the analysis",
    worth=150_000,
    needs=("mpaudit.static.checks", "mpaudit.static.program.analysis", "mpaudit.static.program.networks"),
)
