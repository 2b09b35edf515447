"""container_restart: starts a container anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.actions.containers import ContainerAction

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerRestart(ContainerAction):
    """Start the container anew, as `docker restart` does."""

    name = "container_restart"
    settings = {**ContainerAction.settings, "grace": "how long it has to end by itself; 10s"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._grace_s = int(options.seconds(settings, "grace", 10, 0, 600))

    def by_api(self, found: DockerContainer) -> None:
        """Restart it; the library waits as much longer for the answer."""
        found.restart(timeout=self._grace_s)
