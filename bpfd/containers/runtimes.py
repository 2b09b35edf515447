"""From a cgroup's path to the container that it is: its id and runtime."""

from __future__ import annotations

import re

MOST_PARTS = 64
_HEX64 = r"(?P<id>[0-9a-f]{64})"
_SCOPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"docker-{_HEX64}\.scope"), "docker"),
    (re.compile(rf"cri-containerd-{_HEX64}\.scope"), "containerd"),
    (re.compile(rf"nerdctl-{_HEX64}\.scope"), "containerd"),
    (re.compile(rf"crio-{_HEX64}\.scope"), "cri-o"),
    (re.compile(rf"libpod-{_HEX64}\.scope"), "podman"),
    (re.compile(rf"libpod-{_HEX64}"), "podman"),
    (re.compile(r"buildkit-(?P<id>[0-9a-z]{16,64})\.scope"), "buildkit"),
    (re.compile(r"lxc\.payload\.(?P<id>[^/]+)"), "lxc"),
    (re.compile(r"systemd-nspawn@(?P<id>[^/]+)\.service"), "systemd-nspawn"),
    (re.compile(r"machine-lxc\\x2d(?:[0-9]+\\x2d)?(?P<id>[^/]+)\.scope"), "lxc-libvirt"),
    (re.compile(r"machine-rkt\\x2d(?P<id>[^/]+)\.scope"), "rkt"),
    (re.compile(r"rkt-(?P<id>[^/]+)\.scope"), "rkt"),
    (re.compile(r"firejail-(?P<id>[^/]+)"), "firejail"),
)
"""Names that say all by themselves, wherever they stand."""
_UNDER: dict[str, tuple[re.Pattern[str], str]] = {
    "docker": (re.compile(_HEX64), "docker"),
    "actions_job": (re.compile(_HEX64), "docker"),
    "buildkit": (re.compile(r"(?P<id>[0-9a-z]{16,64})"), "buildkit"),
    "libpod_parent": (re.compile(rf"libpod-{_HEX64}"), "podman"),
    "lxc": (re.compile(r"(?P<id>[^/]+)"), "lxc"),
    "lxc-libvirt": (re.compile(r"(?P<id>[^/]+)"), "lxc-libvirt"),
    "garden": (re.compile(r"(?P<id>[^/]+)"), "garden"),
    "openvz": (re.compile(r"(?P<id>[^/]+)"), "openvz"),
    "ve": (re.compile(r"(?P<id>[0-9]+)"), "openvz"),
    "firejail": (re.compile(r"(?P<id>[^/]+)"), "firejail"),
    "gvisor": (re.compile(r"(?P<id>[^/]+)"), "gvisor"),
    "runsc": (re.compile(r"(?P<id>[^/]+)"), "gvisor"),
    "wsl": (re.compile(r"(?P<id>[^/]+)"), "wsl"),
    "rkt": (re.compile(r"(?P<id>[^/]+)"), "rkt"),
    "default": (re.compile(_HEX64), "containerd"),
    "k8s.io": (re.compile(_HEX64), "containerd"),
    "moby": (re.compile(_HEX64), "docker"),
}
"""What may stand right below a folder of that name."""
_KUBE = re.compile(r"kube(?:let-kube)?pods(?:[-.].*)?|kubepods.*")
_KUBE_ID = re.compile(r"(?:[a-z-]+-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_MACHINE = re.compile(r"machine-(?P<id>[^/]+)\.scope")


def container_of(path: str) -> tuple[str, str] | None:
    """The id and runtime of the container that the cgroup `path` lies in; None: the host.

    Of containers in containers the innermost counts. Never raises: anybody who was delegated a cgroup may name those
    below it as he likes.
    """
    parts = path.split("/")[:MOST_PARTS]
    found: tuple[str, str] | None = None
    in_kube = False
    before = ""
    for part in parts:
        in_kube = in_kube or _KUBE.fullmatch(part) is not None
        found = _named(part, before, in_kube) or found
        before = part
    return found


def _named(part: str, before: str, in_kube: bool) -> tuple[str, str] | None:
    if "conmon" in part:
        return None
    if in_kube and (match := _KUBE_ID.fullmatch(part)):
        return match["id"], "kube"
    for pattern, runtime in _SCOPES:
        if match := pattern.fullmatch(part):
            return match["id"], runtime
    if before == "machine.slice" and (match := _MACHINE.fullmatch(part)):
        return match["id"], "systemd-nspawn"
    under = _UNDER.get(before)
    if under is not None and (match := under[0].fullmatch(part)):
        return match["id"], under[1]
    return None
