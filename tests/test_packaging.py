"""The wheel that users install, and a stranger's plugin beside it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
READY_S = 60.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def build(source: Path, into: Path, kind: str = "wheel") -> Path:
    """A wheel or an sdist of a source tree, built without the network."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(into), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [made] = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def test_the_wheel_holds_one_package_with_all_its_parts(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"bpfd"}
    wanted = (
        "tracers/open.py tracers/open.c tracers/exec.c actions/stdout.py rules/load.py api/server.py api/bpfd_pb2.py"
    )
    wanted += " kernel/filter.h kernel/path.h kernel/arguments.h containers/watch.c cli/main.py"
    assert {f"bpfd/{name}" for name in wanted.split()} <= set(names)
    assert len(names) == len(set(names))


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build(ROOT, tmp_path / "sdist", "sdist")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    again = build(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    """Each file's checksum; RECORD apart, whose order is nobody's business."""
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist() if not one.filename.endswith("/RECORD")}


def test_no_dependency_is_the_unrelated_bcc_of_pypi() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert listed
    assert not [one for one in listed if one.split(">")[0].split("=")[0].strip().lower() == "bcc"]


@pytest.fixture(scope="module")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with bpfd from its wheel and the example plugin, both installed by pip."""
    place = tmp_path_factory.mktemp("stranger") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=120)
    plugin = build(ROOT / "contrib" / "plugin", tmp_path_factory.mktemp("plugin"))
    pip = [str(place / "bin" / "pip"), "install", "-q", "--no-deps", "--no-index", str(wheel), str(plugin)]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    # What both depend on comes from the environment of the tests, so that no network is needed. sys.path alone: the
    # editable bpfd there has hooks that only its site processing runs.
    [site] = place.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def test_a_strangers_plugin_is_installed_with_pip_and_runs(stranger: Path, tmp_path: Path) -> None:
    rules, tally = tmp_path / "rules", tmp_path / "tally"
    rules.mkdir()
    (rules / "ends.toml").write_text(
        'tracer = "exits"\nactions = ["tally", "stdout"]\n[filterEvents.thread]\nis = ["sleep"]\n'
    )
    (rules / "beats.toml").write_text('tracer = "heartbeat"\nactions = ["tally", "stdout"]\n')
    config = tmp_path / "bpfd.toml"
    folders = (
        f'state_dir = "{tmp_path}/state"\ncache_dir = "{tmp_path}/cache"\ngrpc_addr = "unix://{tmp_path}/bpfd.sock"\n'
    )
    config.write_text(f'{folders}[actions.tally]\npath = "{tally}"\n')
    out, err = tmp_path / "out", tmp_path / "err"
    command = [str(stranger / "bin" / "bpfd"), "daemon", "--config", str(config), "--rules-dir", str(rules)]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        daemon = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=tmp_path)
    try:
        wait_for(lambda: "bpfd: ready" in err.read_text() or daemon.poll() is not None)
        assert daemon.poll() is None, err.read_text()
        subprocess.run(["sleep", "0.01"], check=True)
        wait_for(lambda: {"ends", "beats"} <= {line["rule"] for line in events(out)})
        wait_for(lambda: tally.exists() and {"ends", "beats"} <= set(tally.read_text().split()))
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(10)
    [ended] = [line for line in events(out) if line["rule"] == "ends"][:1]
    assert ended["command"] == "sleep"
    assert ended["data"] == {"thread": "sleep", "priority": "120"}
    beats = [int(line["data"]["beat"]) for line in events(out) if line["rule"] == "beats"]
    assert beats == list(range(beats[0], beats[0] + len(beats)))


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().split("\n")[:-1]]  # the last may be half written


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
