"""The words of the protocol: which code is about gradients, scalers and optimizers, by the names it uses."""

from __future__ import annotations

import re

from ..facts import ir

PROTOCOL_WORDS = frozenset(
    [
        "backward",
        "unscale_",
        "zero_grad",
        "GradScaler",
        "autocast",
        "nullcontext",
        "enter_context",
        "grad",
        "clip_grad_norm_",
        "clip_grad_value_",
        "clip_grad_norm",
        "clip_grad_value",
        "dispatch_clip_grad",
        "binary_cross_entropy",
        "BCELoss",
        "scale",
        "half",
        "bfloat16",
        "double",
        "set_default_dtype",
        "set_default_tensor_type",
        "from_numpy",
        "as_tensor",
        "state_dict",
        "manual_backward",
    ]
)
"""Names whose presence makes following code worth while: what acts on gradients, on the scaler, on precision."""
MAKER_WORDS = frozenset(
    [
        "optim",
        "SGD",
        "Adam",
        "AdamW",
        "RMSprop",
        "Adagrad",
        "LAMB",
        "create_optimizer",
        "device",
        "float16",
        "float64",
        "DataParallel",
        "DistributedDataParallel",
    ]
)
"""Names of what makes optimizers, devices and dtypes: worth following into, not worth iterating a loop for."""
_STEPS = re.compile(r"(?i)(sched|prof|env|pbar|bar|meter|timer|lr|ema|log|writer|tracker|warmup)\w*$")


EVENT_WORDS = frozenset(
    (
        "backward", "manual_backward", "unscale_", "zero_grad", "scale", "grad", "clip_grad_norm_", "clip_grad_value_",
        "clip_grad_norm", "clip_grad_value", "dispatch_clip_grad", "GradScaler",
    )
)  # fmt: skip
"""What acts on gradients, a scaler or an optimizer."""


def is_event_node(node: object) -> bool:
    """Protocol code that acts on gradients, a scaler or an optimizer."""
    name = node.name if isinstance(node, ir.Attr) else node.id if isinstance(node, ir.Name) else None
    return name in EVENT_WORDS if name else isinstance(node, ir.Call) and is_protocol_node(node)


def is_protocol_node(node: object) -> bool:
    """`step` and `update` are common names: a scheduler's step or a meter's update is no event."""
    if type(node) is ir.Name:
        return node.id in PROTOCOL_WORDS
    if type(node) is ir.Attr:
        return node.name in PROTOCOL_WORDS or (node.name == "save" and _last(node.base) in ("torch", "accelerator"))
    if type(node) is ir.Call and isinstance(node.func, ir.Attr):
        if node.func.name == "step":
            return not _STEPS.search(_last(node.func.base))
        if node.func.name == "update":
            return (not node.args and not node.keywords) or "scaler" in _last(node.func.base).lower()
    if type(node) is ir.ExprStmt and isinstance(node.value, ir.Call):
        return _last(node.value.func).endswith("autocast")  # made, and entered by nothing
    return False


def _last(expr: ir.Expr) -> str:
    return expr.name if isinstance(expr, ir.Attr) else expr.id if isinstance(expr, ir.Name) else ""


AFTER_TRAINING = re.compile(
    r"(?i)eval|valid|test|infer|predict|demo|export|convert|onnx|deploy|bench|sample|generat(?!or)|detect(?!or|ion)"
    r"|strip|profil|warm_?up|auto_?shape|backend|compress|(^|_)val([_.]|$)"
)
"""Files, classes and functions that use a network rather than train it."""


def is_after_training(path: str) -> bool:
    """Whether a file, or a folder around it, is named after what uses a network."""
    return any(map(AFTER_TRAINING.search, path.split("/")))
