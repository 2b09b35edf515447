"""container_stop: asks a container to end, then ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.actions.containers import ContainerAction

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerStop(ContainerAction):
    """Ask the container to end, as `docker stop` does, and end it if it has not after a while."""

    name = "container_stop"
    settings = {**ContainerAction.settings, "grace": "how long it has to end by itself; 10s"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._grace_s = int(options.seconds(settings, "grace", 10, 0, 600))

    def by_api(self, found: DockerContainer) -> None:
        """Stop it; the library waits as much longer for the answer."""
        found.stop(timeout=self._grace_s)
