"""The lives of containers: created, running, paused, resumed, exited, oom, destroyed."""

from __future__ import annotations

from bpfd.plugin import ContainerChange, Emit, Field, Tracer

MOST_LABELS = 4096
"""Characters of the labels that are told; a rule's `[container] label` has each of them whole."""


class ContainerTracer(Tracer):
    """Containers that are created, run, pause, go on, run out of memory, end and are removed, of every runtime.

    Of its own containers Docker tells everything, by its stream of events: `created` and `destroyed` are those of the
    container, the exit code is the one that it keeps, `oom` is its own word. A change that Docker does not tell within
    two seconds is taken from the container's cgroup, and so is everything while Docker does not answer; when it is back
    its list of containers makes up for what was missed.

    Of all other containers (podman, containerd, cri-o, Kubernetes and so on) the cgroup tells: `created` and
    `destroyed` are those of the cgroup, which runtimes remove when the container ends, and there is no exit code.
    `running` is its first process, which the runtime may hold for a moment; `exited` comes when no process is left;
    `paused` and `resumed` are the freezer's. Cgroup v2 tells each of these at once (inotify on cgroup.events and
    memory.events). What only v1 has, also beside v2, is read once a second: the freezer and `oom`, and on machines
    without v2 whether anything runs; of more than 1000 containers a thousand a second in turn. What comes and goes in
    between is not seen, but an `oom` with which the container ends is. One that lives for less than it takes to look,
    some milliseconds, is only created and destroyed.

    `oom` is that the kernel killed one of its processes for want of memory; several within two seconds are one.

    Containers that are there when the tracer is loaded are not told. It belongs to no process: the pid is 0, and
    actions on containers act on the one that the event is about. 16384 containers are followed; what goes beyond is
    counted (`containers.unfollowed`).
    """

    name = "container"
    follows_containers = True
    fields = (
        Field("action", "what happened, of the seven above; going on after a pause is resumed", example="exited"),
        Field("name", "the container's name, once its runtime told it", optional=True, example="web"),
        Field("image", "its image, once its runtime told it", length=1024, optional=True, example="nginx:1.27"),
        Field(
            "labels",
            "its labels, sorted, as key=value with commas between; the first 4096 characters",
            length=MOST_LABELS + 1,
            optional=True,
            example="app=web,tier=front",
        ),
        Field(
            "exit_code",
            "exited, of Docker's: what the first process said; 128 and the signal where one ended it",
            type="u64",
            optional=True,
            example="137",
        ),
        Field(
            "host_pid",
            "its first process as the host numbers it, also once that has ended",
            type="u64",
            optional=True,
            example="4242",
        ),
    )

    def start(self, emit: Emit) -> None:
        self._emit = emit

    def stop(self) -> None:
        pass

    def container_changed(self, change: ContainerChange) -> None:
        container = change.container
        data = {
            "action": change.action,
            "name": container.name,
            "image": container.image,
            "labels": ",".join(f"{key}={value}" for key, value in sorted(container.labels.items()))[:MOST_LABELS],
            "exit_code": "" if change.exit_code is None else str(change.exit_code),
            "host_pid": str(change.host_pid or ""),
        }
        told = {key: value for key, value in data.items() if value}
        self._emit(told, time=change.time, container=container)
