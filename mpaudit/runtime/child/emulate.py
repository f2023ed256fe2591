"""CUDA's autocast on a CPU: its policy for each op, and the arithmetic of its tensor cores. For numerics only.

CPU autocast is another policy than CUDA's (softmax, layer_norm, exp, sum stay in the low dtype on a CPU), and float16
matrix products on a CPU are some hundred times slower than float32 ones. So every op that CUDA's autocast lists gets
a kernel here, for the CPU's autocast key: products of matrices round their inputs to the low dtype, multiply and add
up in float32, and round the result, in both directions; ops of the float32 list get float32 inputs; ops that only the
CPU lists run in the dtype of their inputs, as unlisted ops do. No time of such a run is ever to be shown.

The lists are those of torch's `aten/src/ATen/autocast_mode.h`; which overloads exist the running torch is asked.
Where this differs from a GPU: attention keeps its probabilities in float32, an LSTM or GRU its state between steps, and
the order in which sums are added up is the CPU's.
"""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Literal

import torch

from mpaudit.runtime.child.patches import Patches

Policy = Literal["lower", "float32", "float32 by argument", "norm", "promote", "banned", "stand-in"]

LOWER = frozenset(
    (
        *("_convolution", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d"),
        *("conv_transpose3d", "convolution", "cudnn_convolution", "cudnn_convolution_transpose", "prelu", "addmm"),
        *("addmv", "addr", "matmul", "einsum", "mm", "mv", "linalg_vecdot", "linear", "addbmm", "baddbmm", "bmm"),
        *("chain_matmul", "linalg_multi_dot", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell", "gru_cell"),
        *("rnn_tanh_cell", "rnn_relu_cell", "_scaled_dot_product_flash_attention", "scaled_dot_product_attention"),
    )
)
BY_ARGUMENT = frozenset(
    ("prod", "softmax", "log_softmax", "cumprod", "cumsum", "linalg_vector_norm", "linalg_matrix_norm", "sum")
)
"""Computed and returned in float32 unless the call names a dtype."""
PROMOTE = frozenset(
    (
        *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put", "tensordot"),
        "scatter_add",
    )
)
BANNED = frozenset(("binary_cross_entropy",))
FLOAT32 = frozenset(
    (
        *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt"),
        *("sinh", "tan", "pow", "softplus", "layer_norm", "native_layer_norm", "rms_norm", "group_norm"),
        *("frobenius_norm", "nuclear_norm", "cosine_similarity", "poisson_nll_loss", "cosine_embedding_loss"),
        *("nll_loss", "nll_loss2d", "hinge_embedding_loss", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss"),
        *("mse_loss", "margin_ranking_loss", "multilabel_margin_loss", "soft_margin_loss", "triplet_margin_loss"),
        *("multi_margin_loss", "binary_cross_entropy_with_logits", "dist", "pdist", "cdist", "renorm", "logsumexp"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d"),
        *("upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
        *("_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    )
)

_LIKE_CUDNN_RNN = "aten::mkldnn_rnn_layer"
"""What an LSTM runs on a CPU where a GPU runs cuDNN's, which autocast gives weights in the low dtype."""

_ONLY_ON_CUDA_IN_HALF = re.compile(r"aten::(?:\w*pool[23]d|max_unpool[23]d|\w+_pad[123]d|grid_sampler_[23]d|trace)$")
"""Unlisted, with kernels in half on a GPU and not all of them on a CPU: float32 ones stand in."""

_NO_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def policy(name: str) -> Policy | None:
    """Of an op as the dispatcher names it, as `aten::softmax.int`; None for one that CUDA's autocast leaves alone."""
    base = name.removeprefix("aten::").split(".")[0]
    if base in LOWER or name == _LIKE_CUDNN_RNN:
        return "lower"
    if base in BY_ARGUMENT:
        return "float32 by argument"
    if base in PROMOTE:
        return "promote"
    if base in BANNED:
        return "banned"
    if base == "norm":
        return "norm"
    return "float32" if base in FLOAT32 else None


class Emulation:
    """Holds the registrations: they last as long as this does."""

    def __init__(self) -> None:
        library: Any = torch.library.Library  # not annotated
        self.library = library("aten", "IMPL")
        self.casts: dict[int, tuple[Any, torch.Tensor]] = {}
        """Weights in the low dtype, as autocast keeps them until it is left."""
        self.unknown: list[str] = []
        """Ops that this torch's CUDA autocast lists and no list here knows: left as they are."""

    def lower(self, value: torch.Tensor) -> torch.Tensor:
        """To the low dtype. A weight that is used again gets the same cast, so that its gradients add up in it."""
        dtype = torch.get_autocast_dtype("cpu")
        if value.dtype is dtype:
            return value
        keeps = value.dtype is torch.float32 and value.requires_grad and value.is_leaf and not value._is_view()
        if not (keeps and torch.is_autocast_cache_enabled()):
            return value.to(dtype)
        kept = self.casts.get(id(value))
        # one that was cast where no gradient was wanted would hide the weight from the backward pass
        if kept is None or kept[0]() is not value or kept[1].requires_grad != torch.is_grad_enabled():
            kept = self.casts[id(value)] = (weakref.ref(value), value.to(dtype))
        return kept[1]


def install(patches: Patches) -> Emulation:
    """To be called once, right after torch was imported. `torch.autocast("cpu", dtype)` is then CUDA's."""
    emulation = Emulation()
    listed = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))
    on_cpu = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU"))
    for name in sorted(listed | on_cpu):
        known = policy(name) if name in listed or name == _LIKE_CUDNN_RNN else None
        if name not in listed and _ONLY_ON_CUDA_IN_HALF.match(name):
            known = "stand-in"
        if known is None and name in listed:
            emulation.unknown.append(name)
            continue
        kernel = _kernel(emulation, _overload(name), known) if known else torch.library.fallthrough_kernel
        with warnings.catch_warnings():  # that a kernel is overridden
            warnings.simplefilter("ignore")
            emulation.library.impl(name.removeprefix("aten::"), kernel, "AutocastCPU", allow_override=True)
    patches.replace(torch, "clear_autocast_cache", lambda original: _clear(emulation, original))
    patches.note("aten ops under AutocastCPU: CUDA's autocast policy")
    return emulation


def _clear(emulation: Emulation, original: Callable[[], None]) -> Callable[[], None]:
    def clear_autocast_cache() -> None:
        emulation.casts.clear()
        original()

    return clear_autocast_cache


def _overload(name: str) -> Any:
    base, _, overload = name.removeprefix("aten::").partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")


def _kernel(emulation: Emulation, op: Any, policy: Policy) -> Callable[..., Any]:
    def lower(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype("cpu")
        rounded, named = _map((args, kwargs), lambda value: emulation.lower(value).float())
        return _map(op(*rounded, **named), lambda value: value.to(dtype))

    def float32(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _map((args, kwargs), lambda value: value.float())
        return op(*args, **kwargs)

    place = _place_of_dtype(op) if policy == "float32 by argument" else 0

    def by_argument(*args: Any, **kwargs: Any) -> Any:
        given = args[place] if len(args) > place else kwargs.get("dtype")
        if given is None and _eligible(args[0]):
            args, kwargs = args[:place], kwargs | {"dtype": torch.float32}
        return op(*args, **kwargs)

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype("cpu")
        found = _dtypes((args, kwargs))
        args, kwargs = _map((args, kwargs), lambda value: value.float())
        result = op(*args, **kwargs)
        return _map(result, lambda value: value.to(dtype)) if found == {dtype} else result

    def norm(*args: Any, **kwargs: Any) -> Any:
        return op(_map(args[0], lambda value: value.float()), *args[1:], **kwargs)

    def promote(*args: Any, **kwargs: Any) -> Any:
        found = _dtypes((args, kwargs))
        widest = torch.float32 if torch.float32 in found else torch.get_autocast_dtype("cpu")
        args, kwargs = _map((args, kwargs), lambda value: value.to(widest))
        return op(*args, **kwargs)

    def banned(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
            "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
            "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\n"
            "or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
            "safe to autocast."
        )

    kernels: dict[Policy, Callable[..., Any]] = {
        "lower": lower,
        "float32": float32,
        "float32 by argument": by_argument,
        "norm": norm,
        "promote": promote,
        "banned": banned,
        "stand-in": stand_in,
    }
    body = kernels[policy]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_NO_AUTOCAST):
            return body(*args, **kwargs)

    return kernel


def _place_of_dtype(op: Any) -> int:
    """The place of the argument `dtype`, which comes last where it may be given by place."""
    return next(place for place, argument in enumerate(op._schema.arguments) if argument.name == "dtype")


def _eligible(value: Any) -> bool:
    """What autocast casts: floating point, and not float64."""
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype is not torch.float64


def _dtypes(value: Any) -> set[torch.dtype]:
    found: set[torch.dtype] = set()

    def see(tensor: torch.Tensor) -> torch.Tensor:
        found.add(tensor.dtype)
        return tensor

    _map(value, see)
    return found


def _map(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """`value` with `change` applied to each eligible tensor in it."""
    if isinstance(value, torch.Tensor):
        return change(value) if _eligible(value) else value
    if isinstance(value, tuple):
        return tuple(_map(one, change) for one in value)
    if isinstance(value, list):
        return [_map(one, change) for one in value]
    if isinstance(value, dict):
        return {key: _map(one, change) for key, one in value.items()}
    return value
