"""Debian's kernels: found and fetched by apt, with lists and sources of their own; the machine's stay as they are."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "linux-image-amd64"
"""Depends on the newest kernel of its suite."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FETCH_S = 900
"""For 20 MB of lists, or a kernel of 100 MB."""


class FetchError(Exception):
    """A kernel cannot be had: what was tried, and what apt said."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that was unpacked."""

    release: str
    """As uname has it: 6.1.0-50-amd64."""
    image: Path
    modules: Path


def fetch(suite: str, folder: Path) -> Kernel:
    """The newest kernel of a suite of Debian's, unpacked below `folder`; what is there already is not fetched again.

    Raises `FetchError`.
    """
    apt = _apt(suite, folder / "apt" / suite)
    _run([*apt, "update", "-qq"], folder)
    package = _depended_on([apt[0].replace("get", "cache"), *apt[1:]], folder)
    place = folder / package
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as made:
            _run([*apt, "download", "-qq", package], Path(made))
            [archive] = Path(made).glob("*.deb")
            _run(["dpkg-deb", "--extract", str(archive), "unpacked"], Path(made))
            (Path(made) / "unpacked").rename(place)
    [image] = place.glob("boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    [modules] = [path for path in (place / "lib/modules", place / "usr/lib/modules") if path.is_dir()]
    return Kernel(release, image, modules / release)


def _apt(suite: str, state: Path) -> list[str]:
    """apt-get with options that make it know this suite alone."""
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]


def _mirror() -> str:
    """Where this machine has Debian from."""
    told = _run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"], Path("/"))
    for line in told.splitlines():
        label, _, address = line.rpartition(" ")
        if label == "Debian":
            return address
    raise FetchError("apt: has no lists of Debian's packages; run: apt-get update")


def _depended_on(apt_cache: list[str], folder: Path) -> str:
    told = _run([*apt_cache, "depends", PACKAGE], folder)
    for line in told.splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith("linux-image-"):
            return package
    raise FetchError(f"{PACKAGE}: depends on no kernel")


def _run(command: list[str], folder: Path) -> str:
    what = f"{command[0]} … {' '.join(command[-2:])}"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S)
    except subprocess.TimeoutExpired:
        raise FetchError(f"{what}: is not done after {FETCH_S} seconds") from None
    if done.returncode:
        raise FetchError(f"{what}: {done.stderr.strip()[-1000:]}")
    return done.stdout
