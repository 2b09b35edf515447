"""container_disconnect: takes a container off its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpfd.actions.containers import ContainerAction
from bpfd.errors import ActionError

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer


class ContainerDisconnect(ContainerAction):
    """Take the container off all its networks; it runs on, and reaches nobody."""

    name = "container_disconnect"

    def by_api(self, found: DockerContainer) -> None:
        """Disconnect it. Raises `ActionError` for one that uses the host's network or another container's."""
        mode = str(found.attrs["HostConfig"]["NetworkMode"])
        if mode == "host" or mode.startswith("container:"):
            raise ActionError(
                f"container {found.short_id}: shares the network of {mode}; it has none of its own to leave"
            )
        for name, network in found.attrs["NetworkSettings"]["Networks"].items():
            if name != "none":
                self.docker().networks.get(network["NetworkID"] or name).disconnect(found, force=True)
