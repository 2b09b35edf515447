"""A cgroup's path says which container it belongs to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd.containers.runtimes import container_of, unclaimed_id
from bpfd.rules.model import RUNTIMES

ID = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
UID = "9c4fd2a1-0e5b-4c7a-9d3e-2f1b6a7c8d9e"
UID_ = UID.replace("-", "_")
BUILD = "k3n0v8b1x5q7z2m4c6l9j0h1g"
USER = "/user.slice/user-1000.slice/user@1000.service"
PODS = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"

CONTAINERS = {
    f"/docker/{ID}": (ID, "docker"),
    f"/system.slice/docker-{ID}.scope": (ID, "docker"),
    f"/system.slice:docker:{ID}": (ID, "docker"),
    f"/moby/{ID}": (ID, "docker"),
    f"/ecs/task-7/{ID}": (ID, "docker"),
    f"/docker/buildx/{ID}": (ID, "docker"),
    f"{USER}/app.slice/docker-{ID}.scope": (ID, "docker"),
    f"/kubepods/burstable/pod{UID}/{ID}": (ID, "kube"),
    f"/kubepods/pod{UID}/{ID}": (ID, "kube"),
    f"/kubepods/besteffort/pod{UID.replace('-', '')}/{ID}": (ID, "kube"),
    f"/kubepods/burstable/pod{UID}/crio-{ID}": (ID, "kube"),
    f"{PODS}/cri-containerd-{ID}.scope": (ID, "kube"),
    f"{PODS}/docker-{ID}.scope": (ID, "kube"),
    f"{PODS}/crio-{ID}.scope": (ID, "kube"),
    f"{PODS}/crio-{ID}.scope/container": (ID, "kube"),
    f"/system.slice/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{ID}": (ID, "kube"),
    f"/system.slice/containerd.service/kubepods-pod{UID_}.slice:cri-containerd:{ID}": (ID, "kube"),
    f"/docker/{OTHER}/kubelet/kubepods/besteffort/pod{UID}/{ID}": (ID, "kube"),
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope": (ID, "kube"),
    f"/machine.slice/libpod-{ID}.scope": (ID, "podman"),
    f"/machine.slice/libpod-{ID}.scope/container": (ID, "podman"),
    f"{USER}/user.slice/libpod-{ID}.scope/container": (ID, "podman"),
    f"/system.slice/web.service/libpod-payload-{ID}": (ID, "podman"),
    f"/libpod_parent/libpod-{ID}": (ID, "podman"),
    f"/system.slice/crio-{ID}.scope": (ID, "cri-o"),
    f"/default/{ID}": (ID, "containerd"),
    f"/k8s.io/{ID}": (ID, "containerd"),
    f"/system.slice/nerdctl-{ID}.scope": (ID, "containerd"),
    f"/system.slice/cri-containerd-{ID}.scope": (ID, "containerd"),
    f"/system.slice/containerd.service/{ID}": (ID, "containerd"),
    f"/docker/buildkit/{BUILD}": (BUILD, "buildkit"),
    f"/buildkit/{BUILD}": (BUILD, "buildkit"),
    f"/system.slice:docker:{BUILD}": (BUILD, "buildkit"),
    f"/docker/{ID}/buildkit/{BUILD}": (BUILD, "buildkit"),
    "/machine.slice/systemd-nspawn@web.service": ("web", "systemd-nspawn"),
    "/machine.slice/systemd-nspawn@web.service/payload/init.scope": ("web", "systemd-nspawn"),
    r"/machine.slice/systemd-nspawn@my\x2dbox.service/payload": ("my-box", "systemd-nspawn"),
    "/machine.slice/machine-web.scope": ("web", "systemd-nspawn"),
    "/lxc/web": ("web", "lxc"),
    "/lxc/101/ns/system.slice/ssh.service": ("101", "lxc"),
    "/lxc.payload.web": ("web", "lxc"),
    "/lxc.payload.web/init.scope": ("web", "lxc"),
    "/lxc.payload/web": ("web", "lxc"),
    "/system.slice/lxc.payload.web-01.scope": ("web-01", "lxc"),
    "/lxc.payload.user-1000_web": ("user-1000_web", "lxc"),
    r"/machine.slice/machine-lxc\x2d4321\x2dbusy.scope": ("busy", "lxc-libvirt"),
    r"/machine.slice/machine-lxc\x2dbusy.scope": ("busy", "lxc-libvirt"),
    "/machine/busy.libvirt-lxc": ("busy", "lxc-libvirt"),
    "/system/busy.lxc.libvirt": ("busy", "lxc-libvirt"),
    "/system.slice/libvirtd.service/libvirt/lxc/busy": ("busy", "lxc-libvirt"),
    f"/machine.slice/machine-rkt\\x2d{UID.replace('-', chr(92) + 'x2d')}.scope/system.slice": (UID, "rkt"),
    f"/garden/{UID}": (UID, "garden"),
    f"/system.slice/garden.service/garden/good/{UID}": (UID, "garden"),
    f"/garden/bad/{UID}": (UID, "garden"),
    "/machine.slice/101": ("101", "openvz"),
    f"/ve/{UID}": (UID, "openvz"),
    f"/system.slice/runsc-{ID}.scope": (ID, "gvisor"),
    "/runsc/sandbox-1": ("sandbox-1", "gvisor"),
    "/firejail/4711": ("4711", "firejail"),
    "/wsl/Debian": ("Debian", "wsl"),
    f"/docker/{ID}/init.scope": (ID, "docker"),
    f"/docker/{ID}/system.slice/ssh.service": (ID, "docker"),
    f"/docker/{OTHER}/docker/{ID}": (ID, "docker"),
    f"{PODS}/cri-containerd-{OTHER}.scope/docker/{ID}/x": (ID, "docker"),
    f"/docker/{ID}/not/{OTHER}": (ID, "docker"),
}
HOST = (
    "",
    "/",
    "/process_api/b2a6e810c182b0b91f7594a31a4c1f35",
    f"/process_api/{ID}",
    f"/{ID}",
    "/docker",
    "/docker/",
    f"/docker/{ID[:63]}",
    f"/docker/{ID}0",
    f"/docker/{ID.upper()}",
    f"/system.slice/docker-{ID}.scope.d",
    "/system.slice/docker.service",
    "/system.slice/docker-cleanup.scope",
    f"/system.slice/var-lib-docker-overlay2-{ID}-merged.mount",
    f"/machine.slice/libpod-conmon-{ID}.scope",
    f"/libpod_parent/conmon/{ID[:12]}",
    f"/machine.slice/machine-libpod_pod_{ID}.slice",
    f"{PODS}/crio-conmon-{ID}.scope",
    f"/kubepods/burstable/pod{UID}",
    PODS,
    "/lxc",
    "/lxc.monitor.web",
    "/lxc.monitor/web",
    "/lxc.pivot",
    "/machine.slice/systemd-nspawn@web.service/supervisor",
    "/machine.slice/machine-web.scope/supervisor",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
    "/machine.slice",
    "/garden",
    "/garden/good",
    "/default/init.scope",
    "/buildkit/workers",
    "/system.slice/containerd.service",
    "/system.slice/ssh.service",
    "/user.slice/user-1000.slice/session-3.scope",
    f"/docker-{BUILD}x.scope",
    "/lxc/-rf",
    "/lxc/a b",
    "/lxc/\x1b[31m",
    "/lxc.payload.\udc80",
    r"/machine.slice/machine-\x2f\x2e\x2e.scope",
    r"/machine.slice/machine-a\x0a.scope",
)
PIECES = st.sampled_from(
    [piece for path in [*CONTAINERS, *HOST] for piece in path.split("/")] + [".", "..", "\\x2d", ":", "a" * 255]
)
PATHS = st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=20).map("/".join)


@pytest.mark.parametrize("path", CONTAINERS)
def test_a_container_is_known_by_its_cgroup(path: str) -> None:
    assert container_of(path) == CONTAINERS[path]


@pytest.mark.parametrize("path", HOST)
def test_what_is_no_container_is_the_host(path: str) -> None:
    assert container_of(path) is None


def test_every_runtime_that_a_rule_may_name_is_known_by_some_cgroup() -> None:
    assert {runtime for _, runtime in CONTAINERS.values()} == set(RUNTIMES) - {"not-found"}


@given(PATHS)
def test_no_name_of_a_cgroup_raises_or_makes_an_id_that_could_do_harm(path: str) -> None:
    found = container_of(path)
    if found is not None:
        container, runtime = found
        assert runtime in RUNTIMES
        assert container.isascii()
        assert container.isprintable()
        assert 0 < len(container) <= 128
        assert not {"/", " ", "\\"} & set(container)


@given(st.sampled_from(sorted(CONTAINERS)), st.lists(st.sampled_from(["init.scope", "a", "system.slice", "x.service"])))
def test_a_cgroup_inside_a_container_belongs_to_it(path: str, below: list[str]) -> None:
    assert container_of("/".join([path, *below])) == CONTAINERS[path]


@pytest.mark.parametrize(
    "path",
    [
        "/a" * 100_000,
        "/" * 1_000_000,
        "/machine-" + r"\x2d" * 100_000 + ".scope",
        "/docker-" + "a" * 100_000,
        "/" + "pod-" * 50_000 + f"/{ID}",
        "/" + "a.slice:" * 50_000 + f"docker:{ID}",
        "/garden/good" * 50_000,
        f"/docker/{ID}" * 10_000,
    ],
)
def test_a_huge_path_costs_little(path: str) -> None:
    began = time.process_time()
    container_of(path)
    unclaimed_id(path)
    assert time.process_time() - began < 0.1


def test_a_bare_number_may_be_a_container_that_only_docker_knows() -> None:
    assert unclaimed_id(f"/actions_job/{ID}/init.scope") == ID
    assert unclaimed_id(f"/a/{OTHER}/b/{ID}") == ID
    assert unclaimed_id("/process_api/b2a6e810c182b0b91f7594a31a4c1f35") == ""
