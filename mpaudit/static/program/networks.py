"""What a network is made of: convolutions, attention, a few dense layers. It says what autocast could gain there.

Only what the triage knows is asked: the names that the text of a class calls, and of everything that those mean in
the project, the files that hold nothing of the protocol among them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from enum import IntEnum

from msgspec import Struct

from ..facts import ir
from ..facts.widths import GROWN
from .definitions import ClassInfo, ModuleInfo, Site
from .index import BY_NAME
from .linker import Project
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
    SPARSE = 7
    """Factorisation machines and their kin: tables of embeddings, whatever else is beside them."""
    LIBRARY = 8
    """A network that a library of models makes, or that is called like one: of a known, large size."""


class Network(Struct, frozen=True, gc=False):
    nature: Nature
    width: int
    """The largest number in sight that may be the width of a layer; 0: none is."""
    in_sight: bool = True
    """All of its layers are."""
    steps: bool = False
    """A recurrent layer is called again and again, step by step."""
    channels: int = 0
    """The largest number in sight that may be one of channels; 0: none is."""
    recurs: bool = False
    """Recurrent layers are among its layers."""
    sees_images: bool = False
    """Convolutions in two or three dimensions are among its layers, or a network that a library makes."""
    needs_float32: bool = False
    """What it solves or inverts needs more digits than 16 bits hold."""
    stated: int = 0
    """As `width`, without what is only said to grow."""
    unseen: bool = False
    """No layer of it is in sight, nor one that it may be made of, in a project of several files."""
    nowhere: bool = False
    """Nothing of it, nor any layer, is in sight, in a project of several files."""
    layers: int = 0
    """How many layers that multiply matrices are written in its text, where all of it is in sight; 0: not known."""
    own: int = 0
    """The largest number that may be the width of a layer, of channels before others, in its text and in what the
    scripts say beside other networks; 0: there is none, or not all of it is in sight."""
    mobile: int = 0
    """The largest number of channels that its text states, where that is in sight and made of the blocks of networks
    for telephones; 0: it is not."""

    @property
    def is_light(self) -> bool:
        """Whether it most likely waits for launches and for memory, whatever the dtype of its products."""
        width = self._width
        if self.needs_float32 or self.nature is Nature.SPARSE:
            return True
        if self.unseen:
            return True
        if self.steps and not (self.sees_images and width >= _ENOUGH_BESIDE):
            return True
        if self._is_shallow or self._is_slim:
            return True
        if self.nature is Nature.CONVOLUTION and _COLOURS < self.mobile <= _MOBILE:
            return True
        if self.nature > Nature.ATTENTION and width <= _COLOURS:
            return self.nature is Nature.CONVOLUTION and not self.sees_images  # over sequences, which are short
        if self.nature is Nature.CONVOLUTION and self.recurs:
            if self.in_sight and not self.sees_images and _COLOURS < self.own <= _ENOUGH_AT_ONCE and self.own != GROWN:
                return True
            doubled = self.width == GROWN and self.channels > _FEW  # both directions of a narrow LSTM
            return max(self.channels, 0 if doubled else self.width) < _ENOUGH_BESIDE
        if self.nature is Nature.CONVOLUTION and not self.sees_images:
            if self.in_sight and _COLOURS < self.own != GROWN:
                width = self.own
            return width < _ENOUGH_OF_SEQUENCES or (width == GROWN and self.stated <= _COLOURS)
        if self.nature is Nature.ATTENTION and self.recurs:
            return width < _ENOUGH_STEPPED
        if self.nature is Nature.LIBRARY and self.recurs and not self.in_sight:
            return width < _ENOUGH_STEPPED
        if self.nature is Nature.ATTENTION:
            return self.stated < _ENOUGH[Nature.ATTENTION]
        return width < _ENOUGH[self.nature]

    @property
    def convolves_images(self) -> bool:
        """Whether it is known to be of convolutions in two or three dimensions, or made by a library of such."""
        return self.nature in (Nature.CONVOLUTION, Nature.LIBRARY) and self.sees_images

    @property
    def is_head_sized(self) -> bool:
        """Whether it is no more than one puts on the features of another network: no wide convolutions, and not as wide
        as a language model."""
        if self.nature is Nature.CONVOLUTION:
            return _COLOURS < self.channels <= _NARROW
        return self.nature < Nature.CONVOLUTION and not (self.in_sight and self.width >= _OF_LANGUAGE)

    @property
    def is_unstated(self) -> bool:
        """Whether all of it is in sight but for how wide it is: nothing says that its convolutions are, other than
        that they grow."""
        unsaid = self._width <= _COLOURS or (self._width == GROWN and self.stated <= _COLOURS)
        return self.nature is Nature.CONVOLUTION and self.layers > 0 and unsaid

    @property
    def _is_shallow(self) -> bool:
        """Whether it is a handful of convolutions that are not wide either, by what is stated."""
        if self.nature is not Nature.CONVOLUTION:
            return False
        grown = self.own == GROWN
        few = 0 < self.layers <= _HANDFUL and (self.own <= _WIDE or grown)
        return few or (0 < self.layers <= 2 * _HANDFUL and grown and self.stated <= _BEGINNING)

    @property
    def _is_slim(self) -> bool:
        """Whether all of its convolutions are in sight, and none is stated to be wide: kernels that wait for memory;
        many that are a little wider wait for their launches."""
        if self.nature is not Nature.CONVOLUTION or not self.layers:
            return False
        return _FEW < self.own < _NARROW or (self.layers > 2 * _HANDFUL and _NARROW <= self.own < _SLIM)

    @property
    def is_narrow(self) -> bool:
        """Whether its convolutions are as narrow as those of networks for images of 32 by 32 pixels."""
        return self.nature is Nature.CONVOLUTION and _COLOURS < self._width <= _NARROW

    @property
    def _width(self) -> int:
        convolves = self.nature is Nature.CONVOLUTION and self.channels > _COLOURS
        return self.channels if convolves else self.width


_ENOUGH = {
    Nature.UNKNOWN: 0, Nature.TABLES: 1 << 60, Nature.DENSE: 4096, Nature.GRAPH: 1 << 60, Nature.RECURRENT: 2048,
    Nature.ATTENTION: 512, Nature.CONVOLUTION: 64, Nature.SPARSE: 1 << 60,
    Nature.LIBRARY: 0,
}  # fmt: skip
"""Nature → the width from which 16 bits are worth it, by the sizes of batches that go with it."""
_ENOUGH_BESIDE = 256
"""The same for convolutions in front of recurrent layers, which may take the time, and, over images, in front of a
decoder that goes step by step."""
_ENOUGH_AT_ONCE = 512
"""As many channels over sequences hide no recurrent layer beside them."""
_ENOUGH_STEPPED = 1024
"""The same of recurrent layers beside attention, or on what a library makes: they decode sentences, or name images."""
_ENOUGH_OF_SEQUENCES = 256
"""The same for convolutions over sequences alone, which are short."""
_OF_LANGUAGE = 768
"""The width of BERT-base; Devlin and others, 2019."""
_NARROW = 128
_HANDFUL = 4
"""So many layers are over before the launches of the step are, on patches and small images."""
_WIDE = 256
"""More channels than these make up for few layers."""
_SLIM = 192
"""Many layers of fewer channels are over before the next one is launched."""
_BEGINNING = 64
"""So many channels a network begins with; what they grow to in twice a handful of layers is not much."""
_MOBILE = 192
"""So many channels convolved one by one are read and written faster than the kernels for them are launched."""
_FEW = 16
"""No more channels than these are hardly those of the network: its own are in a list."""
_COLOURS = 4
"""A width that is no larger is that of the images."""

_MERE = (Nature.TABLES, Nature.DENSE, Nature.RECURRENT)
"""What a network may hold beside something heavier that is not in sight."""

SOLVES = "linalg"
"""Stands for an inverse or a decomposition of a matrix among the names of what is called."""
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
_MOBILE_BLOCK = re.compile(
    r"InvertedResidual|InvertedBottleneck|LinearBottleneck|ShuffleNet|ShuffleV2|^_?(DS|DW)Conv$|^conv_dw$"
)
"""Blocks that convolve each channel by itself and mix them by products of one pixel."""
_SPARSE = re.compile(
    r"(?i)factori[sz]ation_?machine|(deep|field|attentional|neural)_?fm|wide_?(and_?)?deep|deep_?cross|cross_?network"
    r"|dlrm|collaborative_?filtering|matrix_?factori[sz]ation|click_?through"
)
"""Recommendations from sparse features: looked up, summed, and a few dense layers."""
_SOLVED = re.compile(
    r"(?i)^linalg$|broyden|anderson|odeint|fixed_?point|(^|_)m?deq($|_)|(?-i:DEQ)|slogdet|log_?abs_?det|^act_?norm|^inv(ertible)?_?(1x1)?_?conv"
    r"|(planar|radial)_?(flow|transform)|normali[sz]ing_?flow|real_?nvp|^glow$"
)
"""Equilibria that are solved to a tolerance, densities by a change of variables, and inverses of matrices, which there
are none of in 16 bits."""
_WARPS = re.compile(r"(?i)(^|_)(back|inverse_?|flow_?|homography_?)?warp(er|ing)?\d?(_|$)")
_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"))
_CELL = re.compile(r"(LSTM|GRU|RNN)Cell$")
_DENSE = frozenset(("Linear", "LazyLinear", "Bilinear", "linear", "bilinear", "matmul", "mm", "bmm", "einsum", "addmm"))
_TABLES = frozenset(("Embedding", "EmbeddingBag", "Parameter"))
_PLAIN = re.compile(
    r"^(.*(Norm|Norm[123]d|Pool[123]d|Dropout|Dropout[123]d|Pad[123]d|Loss|Tensor|Error|Exception|Warning|ELU|LU|Sigmoid"
    r"|Softmax|Softmax[12]d|Softplus|Tanh|Shrink|Upsample|Sequence|Loader|Dataset|Sampler|Parallel|History|Logger|Writer"
    r"|Meter|List|Dict|Config|Scaler|Encoding|Timer|Adam|AdamW?|SGD|RMSprop|Adagrad|Adadelta|LBFGS|LR)|Adam\w*"
    r"|Module|Sequential|Parameter|Identity|Flatten|Unflatten|Variable|Normal|Bernoulli|Categorical|Uniform"
    r"|MultivariateNormal|Function|Counter|Path|Namespace|ArgumentParser|Any|ABC|Generic|Optional|NamedTuple"
    r"|[A-Z_0-9]+|[A-Z]_[a-z0-9_]+)$"
)
"""Names in capitals that hide no layer with a matrix product."""
_IMPORTED = frozenset(("import_module", "__import__"))
_LOOKED_UP = _IMPORTED | {"eval", "globals", "locals", "instantiate"}
_MAKES = re.compile(
    r"(?i)^(build|make|get|create|load)_?\w*(net|model|encoder|decoder|backbone|layer|block)|^(block|layer)$"
    r"|^(model|net|network|encoder|decoder|backbone|arch|base|block|layer)_?(fn|fun|func|cls|class|type|ctor)$"
)


class _Closure(Struct, frozen=True, gc=False):
    """What the text of a class calls, and the text of all that this means in the project."""

    names: frozenset[str]
    is_open: bool
    """Something is called that was looked up."""
    is_blind: bool
    """Something of it is not in sight."""
    steps: bool
    """A part of it is called step by step."""
    width: int
    channels: int
    layers: int
    stated: int
    """As `channels`, without what is only said to grow."""


class Networks:
    """Answers for one project; what was asked before is remembered."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._alone = len(project.modules) == 1
        self._closures: dict[tuple[str, int], _Closure] = {}
        self._files: dict[frozenset[str], Network] = {}
        self._unseen: dict[str, frozenset[str]] = {}

    @property
    def are_elsewhere(self) -> bool:
        """Whether a network that is not in sight is in another file of the project: it has several, or a file by itself
        imports what it is told the name of."""
        units = (unit for module in self._project.modules.values() for unit in module.outline.units)
        return not self._alone or any(not _IMPORTED.isdisjoint(unit.calls) for unit in units)

    def of(self, layers: frozenset[str], made_of: Iterable[ClassInfo], files: frozenset[str]) -> Network:
        """The network whose classes and layers are known by `made_of` and `layers`; where those do not say it, that of
        `files`, in which it is made and trained, and of all that they import."""
        around = self._of_files(files)
        parts = [self._closure(cls) for cls in made_of]
        names = set(layers - {"?"}).union(*(part.names for part in parts))
        names -= {name[1:] for name in names if name[:1] == _RESOLVED}
        is_open = "?" in layers or any(part.is_open for part in parts)
        is_blind = any(part.is_blind for part in parts)
        steps = any(part.steps for part in parts)
        own = nature_of(names)
        nature = own
        recurs, sees_images = _recurs(names), _sees_images(names)
        if nature is Nature.DENSE and not is_open and not is_blind and not any(map(_hides, names)):
            widths = [*(part.width for part in parts), *map(self._own_width, files)]
            return Network(nature, max(widths, default=0), needs_float32=needs_digits(names))
        if (
            nature < Nature.ATTENTION
            and nature is not Nature.GRAPH
            and (is_open or nature is Nature.UNKNOWN or any(map(_hides, names)))
        ):
            is_open = True
            recurs |= around.recurs
            sees_images |= around.sees_images
            nature = around.nature if nature is Nature.UNKNOWN else max(nature, around.nature)
        if nature is Nature.ATTENTION and is_open:
            nature = Nature.LIBRARY if around.nature is Nature.LIBRARY else nature  # a head on one that it is handed
        if is_blind and nature in _MERE:
            nature = Nature.UNKNOWN
        in_sight = not is_open and not is_blind
        own_width, own_channels = self._own(parts, files) if in_sight else (0, 0)
        one = nature is Nature.RECURRENT and own_width > _COLOURS  # whose width stands where it is made
        return Network(
            nature,
            own_width if one else around.width,
            in_sight,
            steps and recurs,
            around.channels,
            recurs,
            sees_images,
            needs_digits(names) or (own is Nature.UNKNOWN and around.needs_float32),
            around.stated,
            own is Nature.UNKNOWN and nature is Nature.UNKNOWN and not self._alone and bool(files),
            around.nowhere and not names and not self._alone and bool(files),
            sum(part.layers for part in parts) if in_sight else 0,
            own_channels if own_channels > _COLOURS else own_width,
            max((part.stated for part in parts), default=0) if in_sight and _is_mobile(names) else 0,
        )

    def _own(self, parts: list[_Closure], files: frozenset[str]) -> tuple[int, int]:
        """The width and the channels that the text of a network says, or that of the files that make and train it
        beside the networks which these may hold too."""
        modules = (self._project.modules[path] for path in files if path in self._project.modules)
        said: list[_Closure | ir.Unit] = [*parts]
        said += (u for m in modules for u in m.outline.units if u.kind != "class" or not u.layers)
        return max((part.width for part in said), default=0), max((part.channels for part in said), default=0)

    def _own_width(self, path: str) -> int:
        module = self._project.modules.get(path)
        return 0 if module is None else max((unit.width for unit in module.outline.units), default=0)

    def users_of(self, site: Site) -> frozenset[str]:
        """Files that import the function or class around a place, or all of its file."""
        home = self._project.function_at(site)
        if home is None:
            return frozenset()
        name = home.cls.name if home.cls is not None else home.qualname.partition(".")[0]
        return frozenset(
            module.path for module in self._project.modules.values() if module.path != site.path
            for _, source, attribute in module.outline.imports
            if attribute in (name, "", "*") and source.strip(".")
            and (found := self._project.find(module, source)) is not None and found.path == site.path
        )  # fmt: skip

    def wants_digits(self, files: frozenset[str]) -> tuple[bool, bool]:
        """Whether something that `files` import warps images, by what it calls, and so computes with coordinates of
        pixels; and whether something inverts or decomposes matrices."""
        units = (unit for module in self._imported(files) for unit in module.outline.units)
        calls = frozenset(name for unit in units for name in unit.calls)
        return any(map(_WARPS.search, calls)), SOLVES in calls

    def told_by(self, files: frozenset[str]) -> tuple[bool, bool]:
        """Whether something that `files` import takes options, and something names data or weights of usual size."""
        outlines = [module.outline for module in self._imported(files)]
        return any(told.takes_options for told in outlines), any(told.usual_size for told in outlines)

    def _of_files(self, files: frozenset[str]) -> Network:
        known = self._files.get(files)
        if known is None:
            modules = self._imported(files)
            units = [unit for module in modules for unit in module.outline.units if not _MEASURES.search(unit.name)]
            defined = {name for unit in units for name in unit.defines}
            names = {_RESOLVED * (name in defined) + name for unit in units for name in _told_by(unit)}
            names |= {
                LIBRARY for module in modules if not _measures(module) and any(map(_is_library, _sources(module)))
            }
            nature = nature_of(names)
            is_blind = any(self._is_blind(module, unit) for module in modules for unit in module.outline.units)
            nowhere = nature is Nature.UNKNOWN and not is_blind
            if nature is Nature.TABLES or (is_blind and nature in _MERE):
                nature = Nature.UNKNOWN  # the network is elsewhere, and found by its name
            known = self._files[files] = Network(
                nature,
                max((unit.width for unit in units), default=0),
                channels=max((unit.channels for unit in units), default=0),
                recurs=_recurs(names),
                sees_images=_sees_images(names),
                stated=max((unit.stated for unit in units), default=0),
                needs_float32=needs_digits(names - {SOLVES}),  # some file may well, and not for the network
                nowhere=nowhere,
            )
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
        for local, source, name in module.outline.imports:
            if (local, source) == BY_NAME:
                other = self._project.find(module, name)
                found += [other] if other is not None and other is not module else []
                continue
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
            is_open, is_blind, steps, width = not pending, False, False, 0
            channels, layers, stated = 0, 0, 0
            while pending:
                module, unit = pending.pop()
                is_open |= unit.looks_up or bool(_LOOKED_UP.intersection(unit.calls))
                is_blind |= self._is_blind(module, unit)
                steps |= unit.steps
                width = max(width, unit.width)
                channels = max(channels, unit.channels)
                layers += unit.layers
                stated = max(stated, unit.stated_channels)
                for name in _told_by(unit):
                    meant = self._meant(module, name)
                    names.add(_RESOLVED + name if meant else self._outside(module, name))
                    for other, found in meant:
                        if (other.path, found.first_line) not in seen:
                            seen.add((other.path, found.first_line))
                            pending.append((other, found))
            known = self._closures[start] = _Closure(
                frozenset(names), is_open, is_blind, steps, width, channels, layers, stated
            )
        return known

    def _is_blind(self, module: ModuleInfo, unit: ir.Unit) -> bool:
        """Whether it makes something of a file of the project that is not in sight, or of a package nobody knows."""
        if module.path not in self._unseen:
            self._unseen[module.path] = frozenset(
                name if name != "*" else "" for name, source, name_there in module.outline.imports
                if (name or name_there) and not is_known(source) and self._project.find(module, source) is None
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


_MEASURES = re.compile(
    r"(?i:(^|[_.])(losses|loss|lpips|fid|perceptual)([_.]|$)|criteri)|[A-Za-z](Loss|Perceptual)([A-Z_]|$)"
)
"""Names of what tells how far outputs are apart, by networks of its own that are not the trained one."""


def _measures(module: ModuleInfo) -> bool:
    return _MEASURES.search(os.path.basename(module.path).removesuffix(".py")) is not None


def _told_by(unit: ir.Unit) -> frozenset[str]:
    """The names that say what it is made of."""
    return frozenset(unit.calls).difference(unit.kept)


_RESOLVED = "+"
"""Before a name that means something of the project: what it is made of counts, and of the name only what it says."""


def _recurs(names: Iterable[str]) -> bool:
    said = {name.lstrip(_RESOLVED) for name in names}
    return bool(_RECURRENT & said) or any(map(_CELL.search, said))


def _is_mobile(names: Iterable[str]) -> bool:
    return any(_MOBILE_BLOCK.search(name.lstrip(_RESOLVED)) for name in names)


def _sees_images(names: Iterable[str]) -> bool:
    plain = {name for name in names if name[:1] != _RESOLVED}
    return LIBRARY in plain or any(_LIBRARY.search(n) or ("Conv" in n and n[-2:] in ("2d", "3d")) for n in plain)


def needs_digits(names: Iterable[str]) -> bool:
    """Whether it solves an equilibrium or inverts what it computes."""
    return any(_SOLVED.search(name.lstrip(_RESOLVED)) for name in names)


def nature_of(names: Iterable[str]) -> Nature:
    found = set(names)
    plain = {name for name in found if name[:1] != _RESOLVED}
    said = {name.lstrip(_RESOLVED) for name in found}
    if LIBRARY in plain or any(map(_LIBRARY.search, plain)):
        return Nature.LIBRARY
    if any(map(_SPARSE.search, said)):
        return Nature.SPARSE
    if any(map(_CONVOLUTION.search, plain)):
        return Nature.CONVOLUTION
    if any(map(_GRAPH.search, said)):
        return Nature.GRAPH
    if any(map(_ATTENTION.search, said)):
        return Nature.ATTENTION
    if _RECURRENT & plain:
        return Nature.RECURRENT
    if _DENSE & plain:
        return Nature.DENSE
    return Nature.TABLES if _TABLES & plain else Nature.UNKNOWN


_WRAPS = re.compile(r"Parallel$|^(Module|Sequential)(List|Dict)?$|^\?$")
"""What other modules stand in, which may not be in sight."""


def is_idle(layers: frozenset[str]) -> bool:
    """Norms, activations and the like, and nothing that multiplies matrices."""
    own = {name for name in layers if not _WRAPS.search(name)}
    return own == layers and bool(layers) and all(_PLAIN.search(name) for name in layers)


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
     "librosa", "soundfile", "lmdb", "progress", "termcolor", "absl", "IPython", "numba", "rdkit", "datasets", "sympy",
     "statsmodels", "shapely", "gensim", "spacy", "pycocotools", "albumentations", "imgaug", "xgboost", "lightgbm")
)  # fmt: skip
"""Packages whose classes are no networks, or whose networks are told by their names."""


def is_known(source: str) -> bool:
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
