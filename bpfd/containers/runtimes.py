"""Which container a cgroup belongs to, by its path alone.

The layouts, with cgroupfs and with systemd, are those of the runtimes themselves: moby (daemon/oci_linux.go),
containerd's CRI plugin (getCgroupsPath), cri-o, podman (libpod_parent; split mode), buildkit (pull request 580),
nerdctl, gVisor (runsc/cgroup/systemd.go), guardian (rundmc), lxc (cgfsng.c), libvirt (virSystemdMakeScopeName),
systemd (nspawn, docs/CGROUP_DELEGATION.md), kubelet (pod_container_manager_linux.go); names of runtimes as in
genuinetools/amicontained.
firejail, wsl and openvz make no cgroup that tells, or none on today's kernels: theirs is known only below a cgroup of
that name.

Whoever may make cgroups may call one what he likes: a name is a claim. It is taken apart with bounded work, and what
comes out as an id is plain ASCII.
"""

from __future__ import annotations

import re

MOST_PATH = 4096
"""Characters of a path that are looked at, from its top; the kernel's tracepoint gives 1024 bytes."""

_HEX64 = re.compile(r"[0-9a-f]{64}")
_BUILDKIT_ID = re.compile(r"[0-9a-z]{25}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
_VZ_ID = re.compile(r"[0-9]{1,10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# docker-ID.scope of systemd, crio-ID of cgroupfs, and system.slice:docker:ID: what a runtime meant for systemd becomes
# if runc takes it for a path (containerd issue 11589).
_ENGINE = re.compile(
    r"(?:[^:]{1,200}\.slice:)?(docker|cri-containerd|crio|libpod-payload|libpod|nerdctl|containerd)[-:]"
    r"([0-9a-f]{64}|[0-9a-z]{25})(?:\.scope)?"
)
_ENGINES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "nerdctl": "containerd",
    "containerd": "containerd",
}
_PARENTS_OF_HEX64 = {
    "docker": "docker",
    "moby": "docker",
    "default": "containerd",
    "k8s.io": "containerd",
    "nerdctl": "containerd",
    "containerd.service": "containerd",
    "libpod_parent": "podman",
}
_PARENTS_OF_NAMES = {
    "lxc.payload": "lxc",
    "rkt": "rkt",
    "runsc": "gvisor",
    "gvisor": "gvisor",
    "firejail": "firejail",
    "wsl": "wsl",
}
_PARENTS_OF_VZ = {"machine.slice", "ve", "vz", "openvz"}
_PREFIXES = (("lxc.payload.", "lxc"), ("runsc-", "gvisor"), ("systemd-nspawn@", "systemd-nspawn"))
_MACHINES = (("lxc-", "lxc-libvirt"), ("rkt-", "rkt"), ("qemu-", ""), ("", "systemd-nspawn"))
"""What is registered with systemd-machined as machine-NAME.scope, by the name's beginning; "": a virtual machine."""
_POD = re.compile(r"(?:.{0,200}-)?pod[0-9a-f][0-9a-f_-]{7,63}(?:\.slice)?")
_GARDEN = re.compile(r"garden(?:-[0-9A-Za-z]{1,16})?")
_PARENTS = {"good", "bad", "lxc", "buildkit"} | _PARENTS_OF_VZ | _PARENTS_OF_NAMES.keys()
_BEGINNINGS = re.compile(
    r"[0-9a-f]{64}|docker-|cri-containerd-|crio-|libpod-|nerdctl-|containerd-|machine-|lxc\.payload\.|runsc-|systemd-nspawn@"
)
_ENDINGS = (".libvirt-lxc", ".lxc.libvirt")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def container_of(path: str) -> tuple[str, str] | None:
    """The id and runtime of the container that the cgroup at `path` is of or in, the innermost one; None: the host.

    Any thread. Never raises; the work is bounded whatever the path is.
    """
    names = path[:MOST_PATH].split("/")
    for at in range(len(names) - 1, 0, -1):
        if not _may_be(names[at], names[at - 1]):
            continue
        found = _of_engine(names, at) or _of_parent(names, at) or _of_name(names, at)
        if found:
            return found
    return None


def unclaimed_id(path: str) -> str:
    """The innermost name of `path` that could be the id of a container, though nothing else says so; or "".

    Docker puts containers wherever its --cgroup-parent says; only Docker knows whether it is one of its own.
    """
    for name in reversed(path[:MOST_PATH].split("/")):
        if len(name) == 64 and _HEX64.fullmatch(name):
            return name
    return ""


def _may_be(name: str, parent: str) -> bool:
    """Whether a closer look is worth it: a path may have hundreds of names, and whoever may make cgroups makes many."""
    return (
        parent in _PARENTS
        or _BEGINNINGS.match(name) is not None
        or parent.startswith("garden")
        or ":" in name
        or name.endswith(_ENDINGS)
    )


def _of_engine(names: list[str], at: int) -> tuple[str, str] | None:
    """The runtimes that number containers: the id stands in the cgroup's name."""
    name = names[at]
    parent = names[at - 1]
    in_pod = _is_pod(names, at - 1)
    if len(name) == 64 and _HEX64.fullmatch(name):
        runtime = "kube" if in_pod else _PARENTS_OF_HEX64.get(parent) or _of_grandparent(names, at)
        return (name, runtime) if runtime else None
    found = _ENGINE.fullmatch(name) if len(name) < 320 else None
    if found is None:
        return None
    engine, container = found.groups()
    if len(container) == 25:
        return (container, "buildkit") if engine == "docker" else None
    return container, "kube" if in_pod or "kubepods" in name else _ENGINES[engine]


def _of_grandparent(names: list[str], at: int) -> str:
    above = names[at - 2] if at >= 2 else ""
    return "docker" if above == "ecs" or (above, names[at - 1]) == ("docker", "buildx") else ""


def _is_pod(names: list[str], at: int) -> bool:
    """Whether it is a pod's cgroup: of one of the kubelet's three classes, below its kubepods."""
    name = names[at]
    if "pod" not in name or len(name) > 280 or not _POD.fullmatch(name):
        return False
    return "kubepods" in name or any("kubepods" in above for above in names[max(0, at - 3) : at])


def _of_parent(names: list[str], at: int) -> tuple[str, str] | None:
    """The runtimes that have a cgroup of their own, with the containers below it."""
    name, parent = names[at], names[at - 1]
    if parent == "buildkit":
        return (name, "buildkit") if _BUILDKIT_ID.fullmatch(name) else None
    if parent in _PARENTS_OF_VZ:
        return (name, "openvz") if _VZ_ID.fullmatch(name) else None
    if parent == "lxc":
        return _named(name, "lxc-libvirt" if names[at - 2 : at - 1] == ["libvirt"] else "lxc")
    if parent in _PARENTS_OF_NAMES:
        return _named(name, _PARENTS_OF_NAMES[parent])
    throttled = parent in {"good", "bad"}  # gdn moves what takes too much of the processor to garden/bad
    garden = names[at - 2] if throttled and at >= 2 else parent
    if _GARDEN.fullmatch(garden) and (throttled or name not in {"good", "bad"}):
        return _named(name, "garden")
    return None


def _of_name(names: list[str], at: int) -> tuple[str, str] | None:
    """The runtimes that name containers: the cgroup's name is the container's with something around it."""
    name = names[at]
    if name.startswith("machine-") and name.endswith(".scope"):
        return None if _is_supervisor(names, at) else _of_machine(name)
    for suffix in _ENDINGS:
        if name.endswith(suffix):
            return _named(name.removesuffix(suffix), "lxc-libvirt")
    for prefix, runtime in _PREFIXES:
        if name.startswith(prefix):
            if _is_supervisor(names, at):
                return None
            bare = name.removeprefix(prefix)
            return _named(_unescaped(bare.removesuffix(".scope").removesuffix(".service")), runtime)
    return None


def _of_machine(name: str) -> tuple[str, str] | None:
    bare = _unescaped(name[len("machine-") : -len(".scope")])
    for prefix, runtime in _MACHINES:
        if bare.startswith(prefix):
            bare = bare.removeprefix(prefix)
            if runtime == "lxc-libvirt":  # libvirt puts the number of the domain before its name
                number, _, rest = bare.partition("-")
                bare = rest if number.isdigit() and rest else bare
            return _named(bare, runtime) if runtime else None
    return None


def _is_supervisor(names: list[str], at: int) -> bool:
    """systemd-nspawn itself stays outside of the container that it made."""
    return names[at + 1 : at + 2] == ["supervisor"]


def _named(name: str, runtime: str) -> tuple[str, str] | None:
    return (name, runtime) if _NAME.fullmatch(name) else None


def _unescaped(name: str) -> str:
    r"""systemd writes what may not stand in a unit's name as \xNN (unit-name.c)."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name[:600])
