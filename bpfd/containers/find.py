"""The container that somebody means by an id, the beginning of one, or a name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bpfd.containers import docker
from bpfd.containers.cgroups import find_hierarchy
from bpfd.containers.index import ContainerIndex
from bpfd.errors import BpfdError
from bpfd.event import printable


class ContainerError(BpfdError):
    """No container, or more than one, is meant."""


def container(wanted: str) -> str:
    """The full id of the running container `wanted`. Cgroups tell ids, whatever the runtime; Docker tells names.

    Raises `ContainerError`; `KernelError` where there are no cgroups. Blocks, for 10 s at most.
    """
    index = ContainerIndex(find_hierarchy())
    try:
        index.scan()
        ids = index.ids()
    finally:
        index.close()
    try:
        names, problem = docker.running(), ""
    except (OSError, ValueError) as error:
        names, problem = {}, getattr(error, "strerror", "") or str(error)
    return among(wanted, ids, names, problem)


def among(wanted: str, ids: Collection[str], names: Mapping[str, str], problem: str = "") -> str:
    """Which of `ids`, and of those that `names` has names for, is meant: a whole id first, then a name, then the
    beginning of an id, as Docker does it. `problem` is why Docker told no names. Raises `ContainerError`."""
    everybody = {*ids, *names}
    if wanted in everybody:
        return wanted
    named = [container_id for container_id, name in names.items() if name == wanted]
    if named:
        return named[0]
    begun = [container_id for container_id in everybody if wanted and container_id.startswith(wanted)]
    if len(begun) == 1:
        return begun[0]
    shown = printable(wanted)[:200]
    if begun:
        raise ContainerError(f'the ids of {len(begun)} containers begin with "{shown}"; give more of it')
    if problem:
        address = printable(docker.address_of_docker())
        raise ContainerError(
            f'no container has the id "{shown}", and names are known to Docker alone, which does not answer at '
            f"{address}: {printable(problem)[:200]}; give the id, or start Docker"
        )
    raise ContainerError(f'no running container has the id or name "{shown}"; docker ps lists those of Docker')
