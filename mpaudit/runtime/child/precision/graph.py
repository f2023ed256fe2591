"""Questions to the autograd graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


def tensors(roots: Any) -> list[torch.Tensor]:
    """The tensors among what `torch.autograd.backward` got: one, or a sequence of them."""
    found = [roots] if isinstance(roots, torch.Tensor) else list(roots)
    return [root for root in found if isinstance(root, torch.Tensor)]


def walk(roots: Any) -> Iterator[Any]:
    """The nodes of the graph that computed the roots, each once."""
    waiting = [root.grad_fn for root in tensors(roots) if root.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def leaves(roots: Any) -> list[torch.Tensor]:
    """The tensors to whose `grad` a backward from the roots adds."""
    found = [root for root in tensors(roots) if root.grad_fn is None and root.requires_grad]
    return found + [node.variable for node in walk(roots) if hasattr(node, "variable")]


def sequence() -> int:
    """The number that the next node of this thread gets."""
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number


def computed_since(roots: Any, sequence: int) -> bool:
    """Whether the first root was computed after autograd had given out this sequence number in this thread."""
    root = next(iter(tensors(roots)), None)
    return root is not None and root.grad_fn is not None and root.grad_fn._sequence_nr() >= sequence


def node_of(result: Any) -> tuple[bool, Any]:
    """Whether a tensor was found in the result of a forward, and the node of the first that has one. A parameter that
    is returned as it is counts as not found: its life says nothing."""
    if isinstance(result, torch.Tensor):
        return result.grad_fn is not None or not result.requires_grad, result.grad_fn
    parts: Any = vars(result).values() if hasattr(result, "__dict__") else ()
    if isinstance(result, Mapping):
        parts = result.values()
    elif isinstance(result, (tuple, list)):
        parts = result
    found = False
    for part in parts:
        if isinstance(part, (torch.Tensor, tuple, list, Mapping)):
            has, node = node_of(part)
            if node is not None:
                return True, node
            found = found or has
    return found, None


def transforming() -> bool:
    """Inside a transform of `torch.func`."""
    return torch._C._functorch.peek_interpreter_stack() is not None
