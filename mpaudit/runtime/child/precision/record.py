"""What precision control met in the user's code: each line once, in the order in which it was met."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpaudit.runtime.protocol import Place

from .. import places


@dataclass(slots=True)
class Record:
    sites: dict[Place, None] = field(default_factory=dict)
    """Where the script controls precision itself."""
    unfaithful: dict[Place, None] = field(default_factory=dict)
    """Where this run is not what its author would have got."""

    def site(self, what: str) -> None:
        self.sites[here(what)] = None

    def doubt(self, what: str) -> None:
        self.unfaithful[here(what)] = None


def here(what: str) -> Place:
    """The innermost line of the user that is being run; no path and line 0 where there is none."""
    return places.caller(what) or Place("", 0, what)
