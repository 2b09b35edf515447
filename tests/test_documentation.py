"""What the documentation and contrib/ say is what the program does."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bpfd import Event, plugins
from bpfd.cli import main as cli
from bpfd.cli.known import known as installed
from bpfd.counters import Counters
from bpfd.plugins import load_plugins
from bpfd.respond import Actions
from bpfd.rules import plan
from bpfd.rules.check import KEYS, Known
from bpfd.rules.directory import load_directory
from bpfd.rules.fields import OWN
from bpfd.rules.load import parse_rule
from bpfd.rules.model import SEVERITIES
from bpfd.settings import Settings, load, parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLUGIN = ROOT / "contrib" / "plugin" / "bpfd_example"


def blocks(language: str) -> list[str]:
    """The README's pieces of code in that language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def prose() -> str:
    return " ".join(README.split())


@pytest.fixture(scope="module")
def known() -> Known:
    found = load_plugins()
    return Known({name: one.fields for name, one in found.tracers.items()}, sorted(found.actions))


def test_the_readme_names_every_command() -> None:
    [commands] = [one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    listed = re.findall(r"^    bpfd ([a-z]+)", section("The program"), re.M)
    assert sorted(set(listed)) == sorted(commands.choices)


def test_the_readme_names_every_setting_with_its_default() -> None:
    table = dict(re.findall(r"^\| (`.+?) \| (.*?) \|", section("Configuration"), re.M))
    said = {name: cell for names, cell in table.items() for name in re.findall(r"`\[?([a-z_]+)", names)}
    assert set(said) == {one.name for one in fields(Settings)}
    defaults = Settings()
    for name in ("rules_dir", "grpc_addr", "state_dir", "cache_dir"):
        assert said[name] == f"`{getattr(defaults, name)}`"
    queues = [str(getattr(defaults, name)) for name in ("event_queue", "action_queue", "trace_queue")]
    assert said["event_queue"] == ", ".join(queues)
    assert json.loads(said["default_actions"].strip("`")) == list(defaults.default_actions)


def test_the_readme_names_every_action_with_its_settings() -> None:
    rows = re.findall(r"^\| (`.+?) \| .*? \|(.*?) \|$", section("Actions"), re.M)
    said = {name: set(re.findall(r"`(\w+)`", cell)) for names, cell in rows for name in re.findall(r"`(\w+)`", names)}
    everywhere = {"docker_host", "timeout"}
    found = load_plugins().actions
    ours = {name: action for name, action in found.items() if action.__module__.startswith("bpfd.actions.")}
    assert set(said) == set(ours)
    for name, action in ours.items():
        common = everywhere if action.acts_on == "container" else set()
        assert said[name] | common >= set(action.settings), name
        assert said[name] <= {key for row in ours.values() for key in row.settings}, name


def counters_said() -> set[str]:
    """The README's counters; NAME and SEVERITY stand for any."""
    said = set()
    for cell in re.findall(r"^\| (`[a-z]+\..+?) \|", section("What is lost is counted"), re.M):
        first, *more = re.findall(r"`(.+?)`", cell)
        said |= {first, *(first.rpartition(".")[0] + last for last in more)}
    return said


def test_the_readme_names_every_counter() -> None:
    code = "".join(path.read_text() for path in (ROOT / "bpfd").glob("*.py"))
    said = counters_said()
    patterns = [
        re.sub(r"\\{.+?\\}", "[A-Za-z_]+", re.escape(one))
        for one in re.findall(r"counters\.(?:add|watch)\(\s*f?\"(.+?)\"", code)
    ]
    assert len(patterns) >= 12
    assert [one for one in patterns if not any(re.fullmatch(one, name) for name in said)] == []
    of_actions = {*re.findall(r"self\._count\(\"(\w+)\"", code), *re.findall(r"\bdone(?:: str)? ?= ?\"(\w+)\"", code)}
    assert {one.rpartition(".")[2] for one in said if one.startswith("action.NAME.")} == of_actions
    of_tracers = {
        f"tracer.{name}.{count}" for name, one in load_plugins().tracers.items() for count in getattr(one, "counts", ())
    }
    own = {"tracer.NAME.lost", "tracer.NAME.unattached"}
    assert {one for one in said if one.startswith("tracer.")} - own == of_tracers


def test_the_readmes_query_asks_for_counters_that_there_are() -> None:
    asked = re.search(r'counter=~"\.\+\[\.\]\((.+?)\)"', README)
    assert asked
    assert set(asked[1].split("|")) <= {one.rpartition(".")[2] for one in counters_said()}


def test_the_readme_names_every_key_of_a_rule_and_every_severity() -> None:
    text = section("Rules")
    missing = [key for key in KEYS if not re.search(rf"(?:`|^|\[|\n){key}\b", text)]
    assert missing == []
    assert [one for one in SEVERITIES if f"`{one}`" not in text] == []


def test_the_readmes_configuration_is_one() -> None:
    import tomli

    [text] = [one for one in blocks("toml") if one.startswith("[actions.")]
    settings = parse(tomli.loads(text), "README.md")
    [table] = settings.actions.values()
    slack = load_plugins().actions[table["type"]]
    assert set(table) - {"type"} <= set(slack.settings)
    slack({**table, "token_env": "PATH", "type": "slack"}).close()


def test_the_example_of_a_configuration_starts_every_action_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "contrib" / "bpfd.toml"
    for name in re.findall(r'_env = "(\w+)"', path.read_text()):
        monkeypatch.setenv(name, "https://pager.example.org/x" if name.endswith("_URL") else "secret")
    (tmp_path / "secret").write_text("secret")
    settings = load(path)
    tables = {name: dict(table) for name, table in settings.actions.items()}
    for table in tables.values():  # what is of this machine
        table |= {key: str(tmp_path / "secret") for key in table if key.endswith("_file")}
    tables["metrics"]["listen"] = "127.0.0.1:0"
    actions = Actions(load_plugins().actions, tables, Counters(), 10)
    try:
        assert set(actions.names()) >= {*tables, *settings.default_actions}
    finally:
        actions.stop(2)
    assert len({table["type"] for table in tables.values()}) < len(tables)


def test_the_readme_names_the_fields_of_every_event() -> None:
    listed = re.search(r"and of every event: `([^`]+)`", prose())
    assert listed
    assert sorted(listed[1].split()) == sorted(field.name for field in OWN)


def test_the_readmes_event_has_the_keys_of_every_event() -> None:
    [text] = blocks("json")
    event = Event(0, "open", 1, 1, 0, 0, 0, "cat", 0)
    assert list(json.loads(text)) == list(event.as_dict())


def test_the_readmes_rule_and_condition_are_good(known: Known) -> None:
    [rule] = [one for one in blocks("toml") if one.startswith("tracer")]
    assert len(parse_rule(rule, "README.md", known, "readme").examples) == 1
    condition = re.search(r"Falco's language instead: `([^`]+)`", prose())
    assert condition
    parse_rule(f"tracer = 'open'\ncondition = '{condition[1]}'\n", "README.md", known, "readme")


def test_a_mistake_is_shown_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shadow.toml").write_text('tracer = "open"\n\n\n\n\n\n[filterEvents.comand]\nis = ["cat"]\n')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "shadow.toml"]) == 1
    [said] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("shadow.toml")]
    assert f"\n    {said}\n" in README


def test_the_readmes_tracer_and_action_are_plugins() -> None:
    [c] = blocks("c")
    assert c == (PLUGIN / "exits.c").read_text()
    tracer, action = blocks("python")
    found: dict[str, Any] = {"__file__": str(PLUGIN / "exits.py")}
    exec(tracer, found)
    assert [plugins.check_tracer(one) for one in found["bpfd_register_tracers"]()] == [[]]
    exec(action, found)
    assert plugins.check_action(found["TallyAction"]) == []
    event = Event(0, "exits", 1, 1, 0, 0, 0, "sh", 0, rule="ends")
    found["TallyAction"]({}).act(event)
    assert found["counts"] == {"ends": 1}


RULES = ROOT / "contrib" / "rules"
DETECTIONS = [path for path in (RULES / "falco").glob("*.toml") if path.name != "definitions.toml"]


def test_the_shipped_rules_are_good_and_pass_their_own_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also the detections, alone and beside the others."""
    others = list(RULES.glob("*.toml"))
    for path in (*others, *DETECTIONS, RULES / "falco" / "definitions.toml"):
        shutil.copy(path, tmp_path)
    for folder, count in ((RULES, others), (RULES / "falco", DETECTIONS), (tmp_path, [*others, *DETECTIONS])):
        assert cli.main(["check", "--strict", str(folder)]) == 0
        assert capsys.readouterr().out.startswith(f"{len(count)} good rules, ")


def test_the_readme_of_the_detections_says_of_each_what_it_attaches_to_and_who_decides() -> None:
    text = (RULES / "falco" / "README.md").read_text()
    rows = re.findall(r"^\| (?:\w+ )?\| `(\w+)\.toml` \| `(.+?)` \| (in the kernel|by Python: .+) \|$", text, re.M)
    said = {name: (tracer, decided == "in the kernel") for name, tracer, decided in rows}
    known = installed(Settings())
    found = {}
    for rule in load_directory(RULES / "falco", known).rules:
        found[rule.name] = rule.tracer, not plan.make([rule.condition], known.tracers[rule.tracer]).inexact
    assert said == found


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "tests/README.md", "tests/bench/README.md"])
def test_documents_name_files_and_commands_that_there_are(document: str) -> None:
    text = (ROOT / document).read_text()
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"`((?:api|bpfd|contrib|rules|tests|tracers|actions)/[\w./*]*)`", text)
    missing = [path for path in named if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []
    targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M))
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.M)} == set()


def test_the_image_has_the_packages_that_make_run_installs() -> None:
    wanted = re.search(r"^RUN_PACKAGES := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    image = (ROOT / "contrib" / "image" / "Dockerfile").read_text()
    installed = re.search(r"--no-install-recommends (.*?) \\?$", image, re.M)
    assert wanted
    assert installed
    assert sorted(installed[1].split()) == sorted(wanted[1].split())


def test_the_image_is_built_from_files_that_there_are() -> None:
    image = (ROOT / "contrib" / "image" / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.+) \S+$", image, re.M) for word in line.split()]
    assert {"pyproject.toml", "bpfd", "tracers", "actions", "rules", "api"} <= set(sources)
    assert [word for word in sources if not (ROOT / word).exists()] == []
