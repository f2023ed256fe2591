"""What a network is made of: convolutions, attention, a few dense layers. It says what autocast could gain there.

Only what the triage knows is asked: the names that the text of a class calls, and of everything that those mean in
the project, the files that hold nothing of the protocol among them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from enum import IntEnum

from msgspec import Struct

from ..facts import ir
from .linker import ClassInfo, ModuleInfo, Project
from .torch_api import is_of_models


class Nature(IntEnum):
    """The heaviest kind of arithmetic in a network."""

    UNKNOWN = 0
    TABLES = 1
    """Embeddings, norms, parameters: no matrix product in sight."""
    DENSE = 2
    GRAPH = 3
    """Sparse products and messages along edges, with dense layers between."""
    RECURRENT = 4
    ATTENTION = 5
    CONVOLUTION = 6
    LIBRARY = 7
    """A network that a library of models makes, or that is called like one: of a known, large size."""


class Network(Struct, frozen=True, gc=False):
    nature: Nature
    width: int
    """The largest number in sight that may be the width of a layer; 0: none is."""
    in_sight: bool = True
    """All of its layers are."""
    steps: bool = False
    """A recurrent layer is called again and again, step by step."""

    @property
    def is_light(self) -> bool:
        """Whether it most likely waits for launches and for memory, whatever the dtype of its products."""
        if self.steps:
            return True
        if self.nature >= Nature.ATTENTION and (not self.in_sight or self.width <= _COLOURS):
            return False
        return self.width < _ENOUGH[self.nature]


_ENOUGH = {
    Nature.UNKNOWN: 0, Nature.TABLES: 1 << 60, Nature.DENSE: 2048, Nature.GRAPH: 1 << 60, Nature.RECURRENT: 512,
    Nature.ATTENTION: 64, Nature.CONVOLUTION: 64, Nature.LIBRARY: 0,
}  # fmt: skip
"""Nature → the width from which 16 bits are worth it, by the sizes of batches that go with it."""
_COLOURS = 4
"""A width that is no larger is that of the images."""

_MERE = (Nature.TABLES, Nature.DENSE, Nature.RECURRENT)
"""What a network may hold beside something heavier that is not in sight."""

LIBRARY = "*"
"""Stands for a network of a library of models among the names of layers."""

_CONVOLUTION = re.compile(r"Conv(Transpose)?[123]d|^conv(_transpose)?[123]d$")
_LIBRARY = re.compile(
    r"(?i)resnet|resnext|densenet|(^|_)vgg|mobilenet|efficientnet|inception|alexnet|squeezenet|u-?net(?!ic)|convnext"
    r"|^from_pretrained$|^create_model$"
)
_ATTENTION = re.compile(
    r"(?i:transformer|attention|attn|(^|_|[a-z])(bert|gpt)|scaled_dot_product|^swin)|^[Vv]i[Tt]($|_|[A-Z])|^ViT"
)
_GRAPH = re.compile(
    r"Graph(Conv|Att|SAGE|Sage|Net|Layer|Norm|Trans|Neural|NN)|(?i:(^|_)gcn|^gat($|_|conv|layer)"
    r"|^gin($|_|conv)|sage_?conv|gnn|^spmm$|message_?passing|torch_sparse|^scatter_(mean|softmax|sum)$)"
)
_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"))
_DENSE = frozenset(("Linear", "LazyLinear", "Bilinear", "linear", "bilinear", "matmul", "mm", "bmm", "einsum", "addmm"))
_TABLES = frozenset(("Embedding", "EmbeddingBag", "Parameter"))
_PLAIN = re.compile(
    r"^(.*(Norm|Norm[123]d|Pool[123]d|Dropout|Dropout[123]d|Pad[123]d|Loss|Tensor|Error|Exception|Warning|ELU|LU|Sigmoid"
    r"|Softmax|Softmax[12]d|Softplus|Tanh|Shrink|Upsample|Sequence|Loader|Dataset|Sampler|Parallel|History|Logger|Writer"
    r"|Meter|List|Dict|Config|Scaler|Encoding|Timer|Adam|AdamW?|SGD|RMSprop|Adagrad|Adadelta|LBFGS|LR)|Adam\w*"
    r"|Module|Sequential|Parameter|Identity|Flatten|Unflatten|Variable|Normal|Bernoulli|Categorical|Uniform"
    r"|MultivariateNormal|Function|Counter|Path|Namespace|ArgumentParser|Any|ABC|Generic|Optional|NamedTuple"
    r"|[A-Z_0-9]+)$"
)
"""Names in capitals that hide no layer with a matrix product."""
_LOOKED_UP = frozenset(("eval", "import_module", "globals", "locals", "instantiate", "__import__"))
_MAKES = re.compile(
    r"(?i)^(build|make|get|create|load)_?\w*(net|model|encoder|decoder|backbone|layer|block)|^(block|layer)$"
)


class _Closure(Struct, frozen=True, gc=False):
    """What the text of a class calls, and the text of all that this means in the project."""

    names: frozenset[str]
    is_open: bool
    """Something is called that was looked up."""
    is_blind: bool
    """Something of it is not in sight."""
    steps: bool
    """A recurrent layer is called step by step."""


class Networks:
    """Answers for one project; what was asked before is remembered."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._closures: dict[tuple[str, int], _Closure] = {}
        self._files: dict[frozenset[str], Network] = {}
        self._unseen: dict[str, frozenset[str]] = {}

    def of(self, layers: frozenset[str], made_of: Iterable[ClassInfo], files: frozenset[str]) -> Network:
        """The network whose classes and layers are known by `made_of` and `layers`; where those do not say it, that of
        `files`, in which it is made and trained, and of all that they import."""
        around = self._of_files(files)
        names, is_open, is_blind, steps = set(layers - {"?"}), "?" in layers, False, False
        for cls in made_of:
            closure = self._closure(cls)
            names |= closure.names
            is_open |= closure.is_open
            is_blind |= closure.is_blind
            steps |= closure.steps
        nature = nature_of(names)
        if (
            nature < Nature.ATTENTION
            and nature is not Nature.GRAPH
            and (is_open or nature is Nature.UNKNOWN or any(map(_hides, names)))
        ):
            is_open = True
            nature = around.nature if nature is Nature.UNKNOWN else max(nature, around.nature)
        return Network(
            Nature.UNKNOWN if is_blind and nature in _MERE else nature,
            around.width,
            not is_open and not is_blind,
            steps,
        )

    def _of_files(self, files: frozenset[str]) -> Network:
        known = self._files.get(files)
        if known is None:
            modules = self._imported(files)
            units = [unit for module in modules for unit in module.outline.units]
            defined = {name for unit in units for name in unit.defines}
            names = {_RESOLVED * (name in defined) + name for unit in units for name in unit.calls}
            names |= {LIBRARY for module in modules if any(map(_is_library, _sources(module)))}
            nature = nature_of(names)
            is_blind = any(self._is_blind(module, unit) for module in modules for unit in module.outline.units)
            if nature is Nature.TABLES or (is_blind and nature in _MERE):
                nature = Nature.UNKNOWN  # the network is elsewhere, and found by its name
            known = self._files[files] = Network(nature, max((unit.width for unit in units), default=0))
        return known

    def _imported(self, files: frozenset[str]) -> list[ModuleInfo]:
        pending = [self._project.modules[path] for path in sorted(files) if path in self._project.modules]
        found = {module.path: module for module in pending}
        while pending:
            module = pending.pop()
            for other in self._direct(module):
                if other.path not in found:
                    found[other.path] = other
                    pending.append(other)
        return list(found.values())

    def _direct(self, module: ModuleInfo) -> list[ModuleInfo]:
        found = []
        for _, source, name in module.outline.imports:
            for dotted in (f"{source.rstrip('.')}.{name}" if source.strip(".") else f"{source}{name}", source):
                other = self._project.find(module, dotted) if dotted.strip(".*") else None
                if other is not None:
                    found.append(other)
        return found

    def _closure(self, cls: ClassInfo) -> _Closure:
        start = (cls.module.path, cls.first_line)
        known = self._closures.get(start)
        if known is None:
            pending = [(cls.module, unit) for unit in cls.module.outline.units if unit.first_line == cls.first_line]
            seen = {start}
            names = {_RESOLVED + cls.name}
            is_open, is_blind, steps = not pending, False, False
            while pending:
                module, unit = pending.pop()
                is_open |= unit.looks_up or bool(_LOOKED_UP.intersection(unit.calls))
                is_blind |= self._is_blind(module, unit)
                steps |= unit.steps
                for name in unit.calls:
                    meant = self._meant(module, name)
                    names.add(_RESOLVED + name if meant else self._outside(module, name))
                    for other, found in meant:
                        if (other.path, found.first_line) not in seen:
                            seen.add((other.path, found.first_line))
                            pending.append((other, found))
            known = self._closures[start] = _Closure(
                frozenset(names), is_open, is_blind, steps and bool(_RECURRENT & names)
            )
        return known

    def _is_blind(self, module: ModuleInfo, unit: ir.Unit) -> bool:
        """Whether it makes something of a file of the project that is not in sight, or of a package nobody knows."""
        if module.path not in self._unseen:
            self._unseen[module.path] = frozenset(
                name if name != "*" else "" for name, source, name_there in module.outline.imports
                if (name or name_there) and not _is_known(source) and self._project.find(module, source) is None
                and (not source.strip(".") or self._project.find(module, f"{source.rstrip('.')}.{name_there}") is None)
            )  # fmt: skip
        unseen = self._unseen[module.path]
        return bool(unseen) and (unit.looks_up or any(name in unseen and _hides(name) for name in unit.calls))

    def _outside(self, module: ModuleInfo, name: str) -> str:
        for local, source, _ in module.outline.imports:
            if local == name and _is_library(source):
                return LIBRARY
        return name

    def _meant(self, module: ModuleInfo, name: str, deep: int = 3) -> list[tuple[ModuleInfo, ir.Unit]]:
        """The classes and functions of the project that a called name may be."""
        own = [(module, unit) for unit in module.outline.units if unit.name == name and unit.kind in ("class", "def")]
        if own or deep == 0:
            return own
        others = [
            (other, attribute) for local, source, attribute in module.outline.imports
            if local == name or attribute == "*"
            if (other := self._project.find(module, source) if source.strip(".") else None) is not None
        ]  # fmt: skip
        found = [place for other, attribute in others if other is not module
                 for place in self._meant(other, name if attribute == "*" else attribute, deep - 1)]  # fmt: skip
        if found or others:
            return found
        return [
            (other, unit) for other in self._direct(module) for unit in other.outline.units
            if unit.name == name and unit.kind in ("class", "def")
        ]  # fmt: skip


_RESOLVED = "+"
"""Before a name that means something of the project: what it is made of counts, and of the name only what it says."""


def nature_of(names: Iterable[str]) -> Nature:
    found = set(names)
    plain = {name for name in found if name[:1] != _RESOLVED}
    if LIBRARY in plain or any(map(_LIBRARY.search, plain)):
        return Nature.LIBRARY
    if any(map(_CONVOLUTION.search, plain)):
        return Nature.CONVOLUTION
    said = {name.lstrip(_RESOLVED) for name in found}
    if any(map(_GRAPH.search, said)):
        return Nature.GRAPH
    if any(map(_ATTENTION.search, said)):
        return Nature.ATTENTION
    if _RECURRENT & plain:
        return Nature.RECURRENT
    if _DENSE & plain:
        return Nature.DENSE
    return Nature.TABLES if _TABLES & plain else Nature.UNKNOWN


def _hides(name: str) -> bool:
    """Whether something that is not in sight, and so of any size, may stand behind a name."""
    if name[:1] == _RESOLVED:
        return False
    if _MAKES.search(name):
        return True
    return name[:1].isupper() and name not in _DENSE | _TABLES | _RECURRENT and not _PLAIN.search(name)


_KNOWN = sys.stdlib_module_names | frozenset(
    ("torch", "torchvision", "torchaudio", "torchtext", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "seaborn",
     "PIL", "cv2", "skimage", "tqdm", "yaml", "wandb", "tensorboard", "tensorboardX", "tensorboard_logger", "einops",
     "gym", "gymnasium", "torch_geometric", "torch_scatter", "torch_sparse", "dgl", "networkx", "h5py", "nltk",
     "visdom", "imageio", "psutil", "six", "joblib", "easydict", "omegaconf", "ogb", "tensorflow", "requests", "ray",
     "librosa", "soundfile", "lmdb", "progress", "termcolor", "absl", "IPython", "numba", "rdkit", "datasets")
)  # fmt: skip
"""Packages whose classes are no networks, or whose networks are told by their names."""


def _is_known(source: str) -> bool:
    return source.split(".", maxsplit=1)[0] in _KNOWN or _is_library(source)


def _is_library(source: str) -> bool:
    return bool(is_of_models(source) or _LIBRARIES.search(source))


_LIBRARIES = re.compile(
    r"^(pretrainedmodels|facenet_pytorch|geffnet|mmcls|mmdet|mmseg|mmpretrain|mmaction|detectron2|fairseq|espnet\d?"
    r"|torchaudio\.(models|pipelines)|pytorch_transformers|pytorch_pretrained_bert|torchvision\.models|ultralytics)\b"
)


def _sources(module: ModuleInfo) -> Iterable[str]:
    return {source for _, source, _ in module.outline.imports} | {
        f"{source}.{attribute}" for _, source, attribute in module.outline.imports if attribute
    }
