"""Real daemons, and programs whose deeds can be counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon

NEVER = "\n".join(['tracer = "{}"', "[filterEvents.filename]", 'values = ["nothing is named like this"]'])


@pytest.fixture
def daemon(tmp_path: Path, cache_dir: Path) -> Iterator[RunningDaemon]:
    """A daemon that the test starts, and that must end in order."""
    made = RunningDaemon(tmp_path, cache_dir)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[RunningDaemon]:
    """A daemon that runs for a whole module, with both tracers and rules that never match: create your own."""
    made = RunningDaemon(tmp_path_factory.mktemp("shared"), cache_dir)
    try:
        for tracer in ("exec", "open"):
            made.write_rule(f"never-{tracer}", NEVER.format(tracer))
        yield made.start()
    finally:
        made.close()


@pytest.fixture(autouse=True)
def end_followers(request: pytest.FixtureRequest) -> Iterator[None]:
    """The daemon of a module goes on, those who follow it in one test do not."""
    yield
    if "shared" in request.fixturenames:
        daemon = request.getfixturevalue("shared")
        assert isinstance(daemon, RunningDaemon)
        daemon.end_followers()


@pytest.fixture(scope="session")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of brief.c."""
    program = tmp_path_factory.mktemp("brief") / "brief"
    source = Path(__file__).with_name("brief.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(source)], check=True)
    os.chmod(program, 0o755)
    return program


@pytest.fixture(scope="session")
def seed_client(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which a client made from the seed's proto runs."""
    place, protos = tmp_path_factory.mktemp("seed"), Path(__file__).parents[1] / "api"
    outputs = [f"--python_out={place}", f"--grpc_python_out={place}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *outputs, "seed.proto"], check=True)
    return {"PYTHONPATH": str(place)}
