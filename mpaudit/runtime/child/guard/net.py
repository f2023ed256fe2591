"""What slips past the overlay is refused: an audit hook sees the calls that Python makes of the system."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from .functions import Report
from .overlay import Overlay

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_TOUCHED = {
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "os.setxattr": (0,),
    "os.removexattr": (0,),
}
"""Which arguments of an event are paths that are changed."""
_FOLLOWING = {"os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr"}
"""Events of calls that change what a link leads to."""


def install(overlay: Overlay, report: Report) -> None:
    """Cannot be taken out again: `sys.addaudithook` has no counterpart."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & _WRITING:
                refuse(path, follow=True)
        elif event in _TOUCHED:
            for position in _TOUCHED[event]:
                refuse(args[position], follow=event in _FOLLOWING)

    def refuse(path: Any, follow: bool) -> None:
        if not isinstance(path, (str, bytes)) or overlay.allows(path, follow):
            return
        report("refused", path)
        raise PermissionError(
            errno.EACCES, "mpaudit keeps your files as they are while it runs this script (--allow-writes)", path
        )

    sys.addaudithook(hook)
