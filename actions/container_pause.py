"""container_pause: freezes a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpfd import freezer
from bpfd.actions.containers import ContainerAction
from bpfd.event import Container

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerPause(ContainerAction):
    """Pause the container: all of it stands still and can be looked at, until `container_unpause`."""

    name = "container_pause"

    def by_api(self, found: DockerContainer) -> None:
        """Pause it."""
        found.pause()

    def by_cgroup(self, container: Container) -> None:
        """Freeze its cgroup."""
        freezer.freeze(container.id, True)


class Pause(ContainerPause):
    """Pause the container; another name of `container_pause`."""

    name = "pause"
