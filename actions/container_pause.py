"""container_pause: freezes a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpfd import freezer, options
from bpfd.actions.container_unpause import ContainerUnpause
from bpfd.actions.containers import ContainerAction
from bpfd.event import Container, Event

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerPause(ContainerAction):
    """Pause the container: all of it stands still and can be looked at, until `container_unpause`."""

    name = "container_pause"
    settings = {**ContainerAction.settings, "for": "how long, also over a restart of the daemon; left out: for ever"}
    per_rule = ("for",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if "for" in settings:
            self.undo_after_s = options.seconds(settings, "for", 0, 1, 366 * 86400)
        # An action of its own, with a connection of its own: it is called on another thread.
        self._unpause = ContainerUnpause(settings)

    def undo(self, event: Event) -> None:
        """Let it go on. Raises as `act`."""
        self._unpause.act(event)

    def close(self) -> None:
        """Close the connections to Docker."""
        super().close()
        self._unpause.close()

    def by_api(self, found: DockerContainer) -> None:
        """Pause it."""
        found.pause()

    def by_cgroup(self, container: Container) -> None:
        """Freeze its cgroup."""
        freezer.freeze(container.id, True)


class Pause(ContainerPause):
    """Pause the container; another name of `container_pause`."""

    name = "pause"
