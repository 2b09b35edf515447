"""container_unpause: lets a paused container go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpfd import freezer
from bpfd.actions.containers import ContainerAction
from bpfd.event import Container

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerUnpause(ContainerAction):
    """Let a paused container go on."""

    name = "container_unpause"

    def by_api(self, found: DockerContainer) -> None:
        """Unpause it."""
        found.unpause()

    def by_cgroup(self, container: Container) -> None:
        """Thaw its cgroup."""
        freezer.freeze(container.id, False)
