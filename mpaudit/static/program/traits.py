"""What a project as a whole shows: its field, its settings, the torch versions it runs on."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator

from ..facts import ir
from ..heat import SCIENCES
from .definitions import ModuleInfo, Site
from .linker import Project
from .nodes import names_among, walk_nodes, walk_statements
from .trace import Trace
from .values import Key

_ASKING = frozenset({"ImportError", "AttributeError", "ModuleNotFoundError", "TypeError", "Exception"})


def computes_in_float64(project: Project) -> bool:
    return any(module.imported_roots & SCIENCES for module in project.modules.values())


def turns_tf32_on(project: Project) -> frozenset[str]:
    """Folders with a file that turns TF32 on; it counts for the code in and below them, and for that above."""
    return frozenset(
        os.path.dirname(module.path) for module in project.modules.values() if any(map(_is_tf32, _statements(module)))
    )


_LOW_PRECISION = frozenset(
    (
        "GradScaler", "amp", "autocast", "bf16", "bfloat16", "float16", "float8_e4m3fn", "fp16", "half",
        "mixed_precision", "use_amp", "use_fp16", "MixedPrecision", "MixedPrecisionPolicy", "set_autocast_enabled",
        "set_default_dtype", "convert_weights", "convert_models_to_fp32",
    )
)  # fmt: skip
"""`convert_weights` is CLIP's, whose weights are float16 on CUDA from the start, also in a copy of its package:
`convert_models_to_fp32` is what its fine-tuning scripts call round a step."""


Constant = tuple[str, str, str]
"""The key of a name of a module: 'global', the module's path, the name."""


def compute_dtypes(project: Project, trace: Trace) -> frozenset[Key]:
    """Constants of the project that a scaler is only used for where they are float16, and that other files than those
    of the loop and of the constant know too: the networks cast to them by themselves."""
    asked: dict[Constant, set[str]] = {}
    for scaled in trace.scaled:
        for key, taken in scaled.basis.guards:
            constant = _is_float16(key) if taken else None
            if constant is not None:
                asked.setdefault(constant, {constant[1]}).add(scaled.site.path)
    return frozenset(
        constant for constant, paths in asked.items()
        if any(module.path not in paths and _imports(module, constant[2]) for module in project.modules.values())
    )  # fmt: skip


def _imports(module: ModuleInfo, name: str) -> bool:
    return any(name in binding for binding in module.outline.imports)


def _is_float16(key: Key) -> Constant | None:
    """X of the decision `X == torch.float16`, where it is a constant of the project."""
    compared = key[1] if key[0] == "truth" and isinstance(key[1], tuple) else key
    match compared:
        case ("cmp", "==", ("global", str(path), str(name)), ("name", "float16" | "half")):
            return ("global", path, name)
        case _:
            return None


def modules_cast(project: Project, trace: Trace) -> bool:
    """Whether a class with a forward enters an autocast: any model may have an object of it as a part."""
    homes = (project.function_at(site) for site in trace.casts_on)
    return any(home is not None and home.cls is not None and "forward" in home.cls.methods for home in homes)


def set_for_a_while(project: Project, trace: Trace) -> frozenset[Site]:
    """Calls that set the default dtype in what sets it back: a context manager, or a function that has asked for it."""
    found = {call.site for call in trace.calls if call.name.startswith("torch.set_default_")}
    homes = {site: project.function_at(site) for site in found}
    return frozenset(
        site for site, home in homes.items()
        if home is not None and (home.name in ("__enter__", "__exit__") or "get_default_dtype" in home.names)
    )  # fmt: skip


SIMULATORS = frozenset(
    ("ding", "gym", "gymnasium", "envpool", "procgen", "pettingzoo", "dm_control", "isaacgym", "ale_py",
     "stable_baselines3", "tianshou", "rl_games", "skrl", "rsl_rl", "atari_py", "crafter", "minigrid", "d4rl",
     "metaworld", "robosuite", "mujoco_py", "pybullet_envs", "vizdoom", "minerl", "gym3"))  # fmt: skip
"""Reinforcement learning: small networks that wait for an environment, where autocast gains little."""


_TOYS = frozenset(("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST"))


_NO_TOYS = frozenset(("CIFAR10", "CIFAR100", "ImageFolder", "ImageNet", "COCO", "Cityscapes", "load_dataset"))


def toy_files(project: Project) -> frozenset[str]:
    """Files that load data so small that the networks for it wait for the CPU, or lie beside one that does where none
    loads anything larger; scripts that choose such data by default, in a file of options or of their own, and what
    these import."""
    folders: dict[str, bool] = {}
    for module in project.modules.values():
        if module.names & (_TOYS | _NO_TOYS):
            folder = os.path.dirname(module.path)
            folders[folder] = folders.get(folder, False) or bool(module.names & _NO_TOYS)
    scripts = with_option(project, lambda unit: unit.small_data)
    return (
        frozenset(
            module.path
            for module in project.modules.values()
            if folders.get(os.path.dirname(module.path)) is False or module.names & _TOYS or _is_of_toys(module)
        )
        | scripts
        | _imported_alone(project, scripts)
    )


def _is_of_toys(module: ModuleInfo) -> bool:
    """Whether the data that it makes is some MNIST, by the names of its classes: `MnistDataset(path)`."""
    made = {name for name in module.names if _DATA.search(name)} - _ANY_DATA
    return bool(made) and all("mnist" in name.lower() for name in made)


_DATA = re.compile(r"^[A-Z]\w+(Dataset|DataModule)$")
_ANY_DATA = frozenset(("TensorDataset", "ConcatDataset", "IterableDataset", "LightningDataModule"))


def _imported_alone(project: Project, scripts: frozenset[str]) -> frozenset[str]:
    """What some scripts import and no other file does."""
    own = {m.path for script in scripts for m in _imported_through_packages(project, project.modules[script])}
    others = (module for module in project.modules.values() if module.path not in own | scripts) if own else ()
    return frozenset(own) - {found.path for module in others for found in _imported(project, module)}


def with_option(project: Project, has: Callable[[ir.Unit], bool]) -> frozenset[str]:
    """The scripts with an option of the command line, in a file of options or of their own."""
    found = {module.path for module in project.modules.values() if any(map(has, module.outline.units))}
    return frozenset(found) | importers(project, found)


def _imported_through_packages(project: Project, module: ModuleInfo) -> Iterator[ModuleInfo]:
    """What a module imports, and what a package that it imports has imported for it."""
    for found in _imported(project, module):
        yield found
        if found.is_package:
            yield from _imported(project, found)


def cpu_files(project: Project) -> frozenset[str]:
    """Scripts that stay on the CPU unless an option says otherwise."""
    return with_option(project, lambda unit: unit.on_cpu)


def option_defaults(project: Project) -> dict[str, dict[str, str]]:
    """File → options that speak of a precision → what they are there unless they are told otherwise: as the file itself
    has it, or else every other one."""
    said = {m.path: dict(d for unit in m.outline.units for d in unit.defaults) for m in project.modules.values()}
    every = {default for defaults in said.values() for default in defaults.items()}
    counted = Counter(name for name, _ in every)
    agreed = {name: value for name, value in every if counted[name] == 1}
    return {path: agreed | defaults for path, defaults in said.items()} if every else {}


def small_net_files(project: Project) -> frozenset[str]:
    """Scripts that train a narrow network for small images unless an option says otherwise."""
    return with_option(project, lambda unit: unit.small_net)


_SMALL_IMAGES = frozenset(("CIFAR10", "CIFAR100", "SVHN"))


def small_image_files(project: Project) -> frozenset[str]:
    """Files that load images of 32 by 32 pixels and none that are larger, or that import such a file and none that
    does otherwise; scripts that load such images unless an option says otherwise."""
    said = {m.path: m.names.union(*(unit.calls for unit in m.outline.units)) for m in project.modules.values()}
    larger = {path for path, names in said.items() if names & (_NO_TOYS - _SMALL_IMAGES)}
    small = {path for path, names in said.items() if names & _SMALL_IMAGES} - larger
    chosen = with_option(project, lambda unit: unit.small_images)
    return frozenset(small) | chosen | (importers(project, small) - larger - importers(project, larger))


def search_files(project: Project) -> frozenset[str]:
    """Files that search for an architecture, with a loss, an optimizer or parameters of its own: a network that holds
    every choice is of many small operations."""
    return frozenset(module.path for module in project.modules.values() if module.names & _OF_A_SEARCH)


_OF_A_SEARCH = frozenset(
    ("Architect", "MixedOp", "a_optimizer", "alpha_optimizer", "arch_loss", "arch_optimizer", "arch_parameters",
     "arch_params", "architect", "architecture_optimizer", "get_alphas", "optimizer_arch", "random_genotype")
)  # fmt: skip


def feature_files(project: Project) -> frozenset[str]:
    """Scripts that train on features which another network has computed before."""
    return with_option(project, lambda unit: unit.reads_features)


def recurrent_files(project: Project) -> frozenset[str]:
    """Scripts that train a recurrent network unless an option says otherwise, or by their names."""
    return with_option(project, lambda unit: unit.recurrent_net) | frozenset(filter(_RECURS.search, project.modules))


_RECURS = re.compile(r"(?i)(^|[/_-])(a|bi|as)?(lstm|gru|rnn)s?([/_.-]|$)")


def aged_files(project: Project) -> frozenset[str]:
    """Files that only a torch, or a Python, from before autocast runs."""
    return frozenset(m.path for m in project.modules.values() if any(map(_is_aged, m.outline.units)) or _has_xrange(m))


def _is_aged(unit: ir.Unit) -> bool:
    return unit.aged


def _has_xrange(module: ModuleInfo) -> bool:
    """`xrange(n)` of Python 2, without an import or an `except NameError: xrange = range` that stands in for it."""
    called = any("xrange" in unit.calls for unit in module.outline.units)
    return called and "NameError" not in module.names and all(name != "xrange" for name, _, _ in module.outline.imports)


def table_files(project: Project) -> frozenset[str]:
    """Files that speak of columns of tables, of categories and of numbers: such rows are embedded in a few numbers."""
    return frozenset(module.path for module in project.modules.values() if module.names & _COLUMNS)


_COLUMNS = frozenset(
    ("cat_cols", "cat_dims", "cat_embed_cols", "cat_embed_input", "cat_idxs", "con_idxs", "cont_cols",
     "continuous_cols", "categorical_cols", "dense_feature_columns", "dnn_feature_columns", "linear_feature_columns",
     "num_continuous", "sparse_feature_columns", "varlen_sparse_feature_columns")
)  # fmt: skip


def rehearsals(project: Project, trace: Trace) -> frozenset[Site]:
    """Backward passes that test or measure something, by the names of functions, of classes or of the folder."""
    homes = {b.site: project.function_at(b.site) for b in trace.backwards}
    return frozenset(
        site for site, home in homes.items()
        if "benchmarks" in site.path.split("/")[:-1]
        or _SEARCHES.search(site.path.rsplit("/", 1)[-1])
        or (home is not None and (_REHEARSES.match(home.name) or _MEASURES.search(home.qualname)))
    )  # fmt: skip


def trials(project: Project, trace: Trace) -> frozenset[Site]:
    """Backward passes in a few steps on tensors of random numbers, which say how much memory or time they take."""
    few = {
        step.backward for step in trace.steps
        if step.backward is not None and len(step.loops) == 1 and step.loops[0] in trace.short
    }  # fmt: skip
    return frozenset(site for site in few if _RANDOM & _names_around(project, site))


def self_checks(project: Project, trace: Trace) -> frozenset[Site]:
    """Calls in what a file does where it is run by itself: with random numbers, it tries out what the file defines."""
    wide = [call.site for call in trace.calls if call.name in WIDENS]
    return frozenset(site for site in wide if _tries_out(project, site))


WIDENS = frozenset(("torch.set_default_dtype", "torch.set_default_tensor_type", "Module.double"))
"""What makes a model or a default float64."""


def _tries_out(project: Project, site: Site) -> bool:
    for unit, nodes in project.modules[site.path].pieces:
        if unit.kind == "code" and unit.first_line <= site.line <= unit.last_line:
            names = names_among(nodes)
            return "__name__" in names and bool(_RANDOM & names) and not any(map(_GIVES_DATA.search, names))
    return False


_GIVES_DATA = re.compile(r"(?i)loader|dataset|pars(e_)?args|argparse")
"""What a script has that trains something: data, or options."""

_RANDOM = frozenset(("rand", "randn", "randint", "rand_like", "randn_like"))


def _names_around(project: Project, site: Site) -> frozenset[str]:
    """The names in the function around a place, or in all of its file."""
    home = project.function_at(site)
    return home.names if home is not None else project.modules[site.path].names


_REHEARSES = re.compile(
    r"(?i)_*(tests?|benchmark|measure|profile|time_?it|lr_?find(er)?|find_?lr|(lr_?)?range_?test"
    r"|(\w+_)?(speed|memory|throughput|timing)_?(test|check|bench(mark)?))(_|$)"
)
"""A search for a learning rate is over after some hundred steps."""


_SEARCHES = re.compile(
    r"(?i)hyper_?param(eter)?s?_?(search|tun(e|er|ing))|lr_?find(er)?|(lr_?)?range_?test"
    r"|(^|_)(performance|speed|latency|throughput)_?(table|test|check|measure\w*)?\.py$"
)
_MEASURES = re.compile(r"(^|\.)([A-Z]\w*)?(Benchmark|Profiler|SpeedTest)\w*\.")


def simulator_files(project: Project) -> frozenset[str]:
    """Files that import a simulator, and those that import one of these."""
    direct = {module.path for module in project.modules.values() if module.imported_roots & SIMULATORS}
    return frozenset(direct) | importers(project, direct)


_SPECTRA = re.compile(
    r"(?i)hyperspectral|(^|_)hsi(_|$)|indian_?pines|pavia_?u|salinas|create_?image_?cubes|pad_?with_?zeros|apply_?pca"
)
"""Names in programs that classify single pixels of hyperspectral images by the few pixels around each."""


def spectral_files(project: Project) -> frozenset[str]:
    """Files that cut such patches, and those that import one of these, or lie beside one."""
    direct = {module.path for module in project.modules.values() if any(map(_SPECTRA.search, _own_names(module)))}
    folders = {os.path.dirname(path) for path in direct}
    beside = {path for path in project.modules if os.path.dirname(path) in folders}
    return frozenset(direct | beside) | (importers(project, direct) if direct else frozenset())


def volume_files(project: Project) -> frozenset[str]:
    """Files that make a network of MONAI's: as narrow as they say, on volumes whose reading takes the time."""
    return frozenset(module.path for module in project.modules.values() if _makes_monai_networks(module))


def _makes_monai_networks(module: ModuleInfo) -> bool:
    imported = any(source.startswith("monai.networks") for _, source, _ in module.outline.imports)
    return imported or ("monai" in module.imported_roots and "nets" in module.names)


def _own_names(module: ModuleInfo) -> set[str]:
    called = {name for unit in module.outline.units for name in (*unit.calls, *unit.defines)}
    return called | {name for _, _, name in module.outline.imports} | {os.path.basename(module.path)[:-3]}


GRAPHS = frozenset(("dgl", "dgllife", "torch_geometric", "torch_geometric_temporal", "pyg_lib", "deepsnap", "ogb"))
"""Libraries of graphs: messages along edges, of which there are few to a node, and small dense layers."""


def graph_files(project: Project) -> frozenset[str]:
    """Files that import a library of graphs, and those that import one of these."""
    direct = {module.path for module in project.modules.values() if module.imported_roots & GRAPHS}
    return frozenset(direct) | (importers(project, direct) if direct else frozenset())


def importers(project: Project, wanted: set[str]) -> frozenset[str]:
    return frozenset(
        module.path for module in project.modules.values() if any(m.path in wanted for m in _imported(project, module))
    )


def _imported(project: Project, module: ModuleInfo) -> tuple[ModuleInfo, ...]:
    """The modules of the project that one imports: `from a import b` means `a.b` where that is a module."""
    known = project.imported.get(module)
    if known is None:
        known = project.imported[module] = tuple(_look_up_imports(project, module))
    return known


def _look_up_imports(project: Project, module: ModuleInfo) -> Iterator[ModuleInfo]:
    for _, source, name in module.outline.imports:
        for dotted in (f"{source.rstrip('.')}.{name}" if source.strip(".") else f"{source}{name}", source):
            found = project.find(module, dotted) if dotted.strip(".*") else None
            if found is not None:
                yield found
                break


_CELLS = frozenset(("LSTMCell", "GRUCell", "RNNCell"))


def stepwise_files(project: Project) -> frozenset[str]:
    """Files with a network that has a recurrent cell for its forward: a Python loop over the sequence launches kernels
    that are too small for their dtype to matter."""
    return frozenset(
        module.path for module in project.modules.values()
        if any(_CELLS.intersection(unit.calls) for unit in module.outline.units)
        and any(_keeps_cell(stmt) for stmt in _method_statements(module))
    )  # fmt: skip


def _method_statements(module: ModuleInfo) -> Iterator[ir.Stmt]:
    for info in module.nested:
        yield from walk_statements(info.node.body if info.node is not None else ())


def _keeps_cell(stmt: ir.Stmt) -> bool:
    """`self.cell = nn.LSTMCell(...)`"""
    return (
        isinstance(stmt, ir.Assign)
        and any(isinstance(target, ir.Attr) for target in stmt.targets)
        and any(isinstance(n, ir.Attr | ir.Name) and (n.name if isinstance(n, ir.Attr) else n.id) in _CELLS
                for n in walk_nodes(stmt.value))
    )  # fmt: skip


def low_precision_files(project: Project) -> frozenset[str]:
    """Files that speak of a low precision in code: what they compute in float32 they do on purpose."""
    fsdp = any(
        attr in ("MixedPrecision", "MixedPrecisionPolicy")
        for module in project.modules.values()
        for _, _, attr in module.outline.imports
    )  # a policy of the model, wherever it is trained
    clip = {os.path.dirname(m.path) for m in project.modules.values() if "convert_weights" in m.names}
    copies = {m.path for m in project.modules.values() if os.path.dirname(m.path) in clip - {""}}
    return frozenset(
        module.path for module in project.modules.values()
        if fsdp or module.names & _LOW_PRECISION
    ) | (importers(project, copies) if copies else frozenset())  # fmt: skip


def version_shims(project: Project) -> frozenset[str]:
    """Files that choose between torch versions: by hasattr, by a version, by catching ImportError or AttributeError."""
    return frozenset(
        module.path for module in project.modules.values() if any(_asks(nodes) for _, nodes in module.pieces)
    )


def _bodies(module: ModuleInfo) -> list[tuple[ir.Stmt, ...]]:
    return [stmts for _, stmts in module.chunks if stmts]


def _statements(module: ModuleInfo) -> Iterator[ir.Stmt]:
    for body in _bodies(module):
        yield from walk_statements(body)
    for info in module.nested:
        if info.node is not None:
            yield from walk_statements(info.node.body)


def _is_tf32(stmt: ir.Stmt) -> bool:
    """A precision that is set and not named here is one that the user chooses: float32 is the choice then."""
    if isinstance(stmt, ir.Assign):
        flags = [t for t in stmt.targets if isinstance(t, ir.Attr) and t.name in ("allow_tf32", "fp32_precision")]
        return bool(flags) and isinstance(stmt.value, ir.Const) and stmt.value.value in (True, "tf32")
    if isinstance(stmt, ir.ExprStmt) and isinstance(stmt.value, ir.Call) and isinstance(stmt.value.func, ir.Attr):
        first = stmt.value.args[0] if stmt.value.args else None
        precise = stmt.value.func.name == "set_float32_matmul_precision"
        return precise and (not isinstance(first, ir.Const) or first.value in ("high", "medium"))
    return False


def _asks(nodes: tuple[object, ...]) -> bool:
    for node in nodes:
        if type(node) is ir.Name and node.id == "hasattr":
            return True
        if type(node) is ir.Attr and node.name in ("__version__", "version"):
            return True
        if type(node) is ir.Try and any(
            isinstance(kind, ir.Name) and kind.id in _ASKING for kind, _, _ in node.handlers
        ):
            return True
    return False
