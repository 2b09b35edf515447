"""container_kill: ends a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpfd import freezer
from bpfd.actions.containers import ContainerAction
from bpfd.event import Container

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerKill(ContainerAction):
    """End every process of the container at once, with SIGKILL."""

    name = "container_kill"

    def by_api(self, found: DockerContainer) -> None:
        """Kill it."""
        found.kill()

    def by_cgroup(self, container: Container) -> None:
        """Kill what is in its cgroup."""
        freezer.kill(container.id)


class DockerKill(ContainerKill):
    """End every process of the container; another name of `container_kill`."""

    name = "docker_kill"
