"""The kernel's own net, where it has one (Linux's Landlock, from ABI 3 on, Linux 6.2).

What neither the overlay nor the audit hook sees, libraries in C and programs that the script starts (`rm`, `rsync`),
is refused outside the free areas with «Permission denied». Needs no privileges; cannot be lifted again; is inherited.
Numbers from linux/landlock.h and the system call table, which is the same on all architectures for these calls.
"""

from __future__ import annotations

import ctypes
import os
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

_WRITE_FILE = 1 << 1
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_CHANGES = _WRITE_FILE | _REMOVE_AND_MAKE | _REFER | _TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def install(areas: tuple[str, ...]) -> bool:
    """Lets this process and its children change files beneath `areas` only. False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)) < 3:
        return False
    attributes = _Ruleset(_CHANGES)
    rules = call(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        for area in areas:
            parent = os.open(area, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _Beneath(_CHANGES, parent)
                if call(_ADD, rules, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)):
                    return False
            finally:
                os.close(parent)
        if ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            return False
        return bool(call(_RESTRICT, rules, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(rules)
