"""What the actions on containers have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.errors import ActionError, RefusedError, TargetGoneError
from bpfd.event import NOT_FOUND, Container, Event, printable
from bpfd.plugin import Action
from bpfd.protected import refuse_own_container

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container as DockerContainer

DOCKER = "docker"


class ContainerAction(Action):
    """Acts on the container that the event came from: through Docker's API, or its cgroup for other runtimes."""

    responds = True
    acts_on = "container"
    settings = {
        "docker_host": "the address of Docker's API; the environment's DOCKER_HOST, or unix:///var/run/docker.sock",
        "timeout": "how long one call of Docker's API may take; 10s",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._host = options.text(settings, "docker_host") if "docker_host" in settings else None
        self._timeout_s = options.seconds(settings, "timeout", 10, 0.1, 300)
        self._client: DockerClient | None = None

    def act(self, event: Event) -> None:
        """Raises `TargetGoneError`, `RefusedError` (no container, or the daemon's own) and `ActionError`."""
        container = event.container
        if not container.id or container.runtime == NOT_FOUND:
            raise RefusedError("container: the event comes from none")
        refuse_own_container(container.id)
        if container.runtime == DOCKER:
            self._by_docker(container)
        else:
            self.by_cgroup(container)

    def close(self) -> None:
        """Close the connections to Docker."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @abstractmethod
    def by_api(self, found: DockerContainer) -> None:
        """Do it through Docker's API; whatever the library raises is made an `ActionError`."""

    def by_cgroup(self, container: Container) -> None:
        """Do it without the runtime. Left as it is, it can't be done."""
        raise ActionError(f"{self.name}: can't be done in {printable(container.runtime)}; only docker is asked for it")

    def _by_docker(self, container: Container) -> None:
        # The package takes 100 ms and some MB to import: only for those who use it, on the action's worker.
        import docker.errors
        import requests.exceptions

        name = container.id[:12]
        try:
            found = self.docker().containers.get(container.id)
            if found.id != container.id:
                raise TargetGoneError(f"container {name}: it has gone")
            if self.spares_container(found.name or ""):
                raise RefusedError(f"container {printable(found.name or name)}: it is protected")
            self.by_api(found)
        except docker.errors.NotFound:
            raise TargetGoneError(f"container {name}: it has gone") from None
        except docker.errors.APIError as error:
            self._judge(name, error.status_code or 0, printable(str(error.explanation or error)))
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            self.close()
            late = any(isinstance(one, requests.exceptions.Timeout) for one in (error, error.__cause__))
            reason = f"no answer within {self._timeout_s:g} s" if late else "it cannot be reached"
            raise ActionError(f"docker: {reason}") from None
        except ActionError:
            raise
        except Exception:  # what the library makes of an answer that is not Docker's
            raise ActionError(f"docker: container {name}: its answer is not that of Docker's API") from None

    def _judge(self, name: str, status: int, said: str) -> None:
        if status == HTTPStatus.CONFLICT and "is not running" in said:
            raise TargetGoneError(f"container {name}: it has ended")
        if status == HTTPStatus.NOT_MODIFIED or "already paused" in said or "is not paused" in said:
            return  # it is as it should be; another conflict is none of that: a container that restarts is not paused
        raise ActionError(f"docker: container {name}: {said}")

    def docker(self) -> DockerClient:
        """The connection to Docker's API, made when first used. Worker thread only."""
        import docker

        if self._client is None:
            base = {} if self._host is None else {"base_url": self._host}
            make = docker.from_env if self._host is None else docker.DockerClient
            self._client = make(timeout=self._timeout_s, **base)  # type: ignore[arg-type]
        return self._client
