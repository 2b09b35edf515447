"""Plugins are found by their entry points, and what breaks the contract is named and left out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfd import Action, BPFTracer, Field, Tracer
from bpfd.kernel.record import HEADER
from bpfd.plugins import MOST_NUMBERS, MOST_SAID, MOST_STRINGS, check_action, check_tracer, load_plugins
from bpfd.rules.fields import OWN, SHARED

C_FILE = Path(__file__).parents[1] / "tracers" / "open.c"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes a distribution of one module, as pip would leave it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(name: str, text: str, distribution: str = "") -> None:
        module, distribution = f"stranger_{name}", distribution or f"bpfd-{name}"
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[bpfd]\n{name} = {module}\n")
        importlib.invalidate_caches()
        made.append(module)

    yield make
    for module in made:
        sys.modules.pop(module, None)


GOOD = '''
from bpfd import Action, Tracer, hookimpl

class {name}(Tracer):
    """Does nothing."""
    name = "{lower}"
    def start(self, emit): pass
    def stop(self): pass

class {name}Action(Action):
    """Does nothing."""
    name = "{lower}-action"
    def act(self, event): pass

@hookimpl
def bpfd_register_tracers():
    return [{name}]

@hookimpl
def bpfd_register_actions():
    return [{name}Action]
'''


def good(name: str) -> str:
    return GOOD.format(name=name, lower=name.lower())


def test_the_built_ins_are_found_by_entry_points_as_anybodys_are_and_break_no_rule() -> None:
    plugins = load_plugins()
    assert {"exec", "open"} <= plugins.tracers.keys()
    assert {"stdout", "kill", "interrupt"} <= plugins.actions.keys()
    assert plugins.problems == []
    built_in = {entry.value for entry in entry_points(group="bpfd") if entry.dist and entry.dist.name == "bpfd"}
    assert built_in == {"bpfd.tracers", "bpfd.actions"}


def test_a_strangers_plugin_is_found(install: Install) -> None:
    install("one", good("One"))
    plugins = load_plugins()
    assert (plugins.tracers["one"].__module__, plugins.actions["one-action"].__module__) == ("stranger_one",) * 2
    assert plugins.problems == []


RAISES = {
    "an error": ("raise ValueError('broken')", "ValueError: broken"),
    "a missing module": ("import there_is_no_such_module", "ModuleNotFoundError: No module named"),
    "a syntax error": ("def (", "SyntaxError"),
    "the end of the program": ("raise SystemExit('good bye')", "SystemExit: good bye"),
    "no Exception at all": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "an error without a text": ("raise OSError", "OSError; left out"),
    "an error that cannot be shown": (
        "class Mute(Exception):\n    def __str__(self): raise Exception\nraise Mute",
        "Mute; left out",
    ),
    "a text that would break the line": ("raise ValueError('a\\n\\x1b[2J')", "ValueError: a\\n\\x1b[2J; left out"),
    "a hook that bpfd does not have": (
        "from bpfd import hookimpl\n@hookimpl\ndef bpfd_register_tracer(): return []\n",
        "unknown hook 'bpfd_register_tracer'",
    ),
    "a hook with an argument": (
        "from bpfd import hookimpl\n@hookimpl\ndef bpfd_register_tracers(daemon): return []\n",
        "daemon",
    ),
}


@pytest.mark.parametrize(("text", "said"), RAISES.values(), ids=list(RAISES))
def test_a_plugin_that_cannot_be_loaded_is_named_and_the_others_are_there(
    install: Install, text: str, said: str
) -> None:
    install("bad", text)
    install("worthy", good("Worthy"))
    plugins = load_plugins()
    [problem] = plugins.problems
    assert problem.startswith("plugin bpfd-bad (stranger_bad): cannot be loaded: ")
    assert said in problem
    assert problem.endswith("; left out")
    assert {"worthy", "exec", "open"} <= plugins.tracers.keys()


def test_what_a_plugin_says_is_cut(install: Install) -> None:
    install("loud", "raise ValueError('x' * 1_000_000)")
    [problem] = load_plugins().problems
    assert len(problem) < MOST_SAID + 100


HOOKS = {
    "raises": ("raise RuntimeError('not today')", "its hook failed: RuntimeError: not today; left out"),
    "ends the program": ("raise SystemExit(1)", "its hook failed: SystemExit: 1; left out"),
    "raises half way": (
        "yield Fine\n    raise RuntimeError('later')",
        "its hook failed: RuntimeError: later; left out",
    ),
    "returns one class": ("return Fine", "its hook failed: TypeError: "),
    "returns what is no class": ("return [Fine()]", "Fine: is no subclass of bpfd.Tracer or bpfd.BPFTracer"),
    "returns a stranger": ("return [dict]", "dict: is no subclass of bpfd.Tracer or bpfd.BPFTracer"),
    "returns a class that cannot be asked": (
        "return [Riddle]",
        "Riddle: cannot be checked: ZeroDivisionError: division by zero",
    ),
}
FINE = '''
from bpfd import Tracer, hookimpl

class Fine(Tracer):
    """Fine."""
    name = "fine"
    def start(self, emit): pass
    def stop(self): pass

class Asked(type(Tracer)):
    @property
    def fields(cls): return 1 / 0

class Riddle(Fine, metaclass=Asked):
    """Cannot be asked."""

@hookimpl
def bpfd_register_tracers():
'''


@pytest.mark.parametrize(("body", "said"), HOOKS.values(), ids=list(HOOKS))
def test_a_plugin_whose_hook_goes_wrong_is_named_and_the_others_are_there(
    install: Install, body: str, said: str
) -> None:
    install("bad", f"{FINE}    {body}\n")
    install("worthy", good("Worthy"))
    plugins = load_plugins()
    [problem] = plugins.problems
    assert problem.startswith(f"plugin bpfd-bad (stranger_bad): {said}")
    assert "fine" not in plugins.tracers
    assert {"worthy", "exec", "open"} <= plugins.tracers.keys()


def test_a_hook_that_goes_wrong_spoils_the_other_hook_of_its_plugin_no_more_than_other_plugins(
    install: Install,
) -> None:
    install("half", good("Half").replace("return [Half]", "raise RuntimeError"))
    plugins = load_plugins()
    assert "half-action" in plugins.actions
    assert len(plugins.problems) == 1


@pytest.mark.parametrize("distribution", ["aaa-first", "bpfd-other", "zzz-last"])
def test_a_built_in_wins_over_a_stranger_of_the_same_name(install: Install, distribution: str) -> None:
    text = good("Open").replace('"open-action"', '"stdout"')
    install("other", text, distribution)
    plugins = load_plugins()
    assert plugins.tracers["open"].__module__ == "bpfd.tracers.open"
    assert plugins.actions["stdout"].__module__ == "bpfd.actions.stdout"
    where = f"plugin {distribution} (stranger_other)"
    assert plugins.problems == [
        f'{where}: Open: name: "open" is taken by bpfd.tracers.open; choose another',
        f'{where}: OpenAction: name: "stdout" is taken by bpfd.actions.stdout; choose another',
    ]


class Plain(Tracer):
    """Does nothing."""

    name = "plain"

    def start(self, emit: object) -> None: ...
    def stop(self) -> None: ...


class Kernel(BPFTracer):
    """Does nothing, in the kernel."""

    name = "kernel"
    program = C_FILE


class Act(Action):
    """Does nothing."""

    name = "act"

    def act(self, event: object) -> None: ...


def changed(base: type, **attributes: Any) -> type:
    """A subclass of `base` that differs in `attributes`; with the docstring of its base."""
    return type("Changed", (base,), {"__doc__": base.__doc__, **attributes})


def test_plugins_that_keep_the_contract_pass() -> None:
    assert check_tracer(Plain) == []
    assert check_tracer(Kernel) == []
    assert check_action(Act) == []


def test_methods_may_take_more_than_they_must() -> None:
    assert check_tracer(changed(Plain, start=lambda self, emit, *more, **named: None)) == []
    assert check_action(changed(Act, act=lambda self, event, loud=False: None)) == []


BAD_NAMES = [None, 7, "", "Open", "1open", "open file", "open\n", "a" * 65, "../open"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("base", [Plain, Kernel, Act])
def test_a_name_that_rules_could_not_write_is_wrong(base: type, name: object) -> None:
    check = check_action if base is Act else check_tracer
    [problem] = check(changed(base, name=name))
    assert problem == f'name: must be small letters, digits, - and _, such as "setuid", not {name!r}'


@pytest.mark.parametrize("text", [None, "", "  \n "])
def test_a_docstring_is_a_must(text: str | None) -> None:
    wanted = ["has no docstring; its first line is what lists show"]
    assert check_tracer(changed(Plain, __doc__=text)) == wanted
    assert check_action(changed(Act, __doc__=text)) == wanted


def test_a_class_without_a_name_is_wrong() -> None:
    class Nameless(BPFTracer):
        """Has none."""

        program = C_FILE

    [problem] = check_tracer(Nameless)
    assert problem.startswith("name: ")


async def start_later(self: object, emit: object) -> None: ...


METHODS: list[tuple[type, dict[str, Any], str]] = [
    (Plain, {"start": lambda self: None}, "start(self): must take (self, emit)"),
    (Plain, {"start": lambda self, emit, more: None}, "start(self, emit, more): must take (self, emit)"),
    (Plain, {"start": classmethod(lambda cls, emit: None)}, "start(emit): must take (self, emit)"),
    (Plain, {"start": Tracer.start}, "start: is missing; define start(self, emit)"),
    (Plain, {"start": None}, "start: is missing; define start(self, emit)"),
    (Plain, {"stop": lambda self, timeout_s: None}, "stop(self, timeout_s): must take (self)"),
    (Plain, {"stop": Tracer.stop}, "stop: is missing; define stop(self)"),
    (Plain, {"container_changed": lambda self: None}, "container_changed(self): must take (self, change)"),
    (Plain, {"follows_containers": "yes"}, "follows_containers: must be True or False, not 'yes'"),
    (Plain, {"__init__": lambda self, path: None}, "__init__(self, path): must take (self)"),
    (Kernel, {"loaded": classmethod(lambda cls: None)}, "loaded(): must take (cls, maps)"),
    (
        Kernel,
        {"settle": lambda self, data, return_value: None},
        "settle(self, data, return_value): must be a class method and take (cls, data, return_value)",
    ),
    (Act, {"act": Action.act}, "act: is missing; define act(self, event)"),
    (Act, {"act": lambda self: None}, "act(self): must take (self, event)"),
    (Act, {"act": lambda self, event, *, how: None}, "act(self, event, *, how): must take (self, event)"),
    (Act, {"__init__": lambda self: None}, "__init__(self): must take (self, settings)"),
    (Act, {"close": lambda self, why: None}, "close(self, why): must take (self)"),
    (Act, {"send": lambda self: None}, "send(self): must take (self, alert)"),
    (Act, {"begin": lambda self: None}, "begin(self): must take (self, counters)"),
    (Act, {"undo": lambda self: None}, "undo(self): must take (self, event)"),
    (Act, {"act_on_batch": lambda self: None}, "act_on_batch(self): must take (self, events)"),
]


@pytest.mark.parametrize(("base", "attributes", "said"), METHODS, ids=[text for _, _, text in METHODS])
def test_a_method_that_could_not_be_called_is_shown_with_its_signature(
    base: type, attributes: dict[str, Any], said: str
) -> None:
    check = check_action if base is Act else check_tracer
    assert check(changed(base, **attributes)) == [said]


def test_a_coroutine_would_never_run() -> None:
    [problem] = check_tracer(changed(Plain, start=start_later))
    assert problem.startswith("async start(self: ")
    assert problem.endswith("is called from a thread, without an event loop; leave out async")


FIELDS: dict[str, tuple[object, list[str]]] = {
    "a list": ([], ["fields: must be a tuple of bpfd.Field, not list"]),
    "a text": (("path",), ["fields: must be a tuple of bpfd.Field, not tuple"]),
    "a name with a dash": (
        (Field("a-b", "x"),),
        ["fields: 'a-b': must be letters, digits and _, at most 64, and begin with no digit"],
    ),
    "a number for a name": (
        (Field(7, "x"),),  # type: ignore[arg-type]
        ["fields: 7: must be letters, digits and _, at most 64, and begin with no digit"],
    ),
    "a name twice": ((Field("a", "x"), Field("a", "y"), Field("a", "z")), ["fields: 'a': is there twice"]),
    "too short": ((Field("a", "x", length=1),), ["fields: 'a': length must be from 2 to 16384 bytes, not 1"]),
    "too long": ((Field("a", "x", length=16385),), ["fields: 'a': length must be from 2 to 16384 bytes, not 16385"]),
    "no length": (
        (Field("a", "x", length="9"),),  # type: ignore[arg-type]
        ["fields: 'a': length must be from 2 to 16384 bytes, not '9'"],
    ),
    "an unknown type": (
        (Field("a", "x", type="int"),),  # type: ignore[arg-type]
        ["fields: 'a': type must be one of string, s64, u64, bool, address, not 'int'"],
    ),
    "also a stranger": ((Field("a", "x", also="b"),), ["fields: 'a': also names 'b', which is no string field"]),
    "also a number": (
        (Field("a", "x", also="b"), Field("b", "y", type="u64")),
        ["fields: 'a': also names 'b', which is no string field"],
    ),
    "too many strings": (
        tuple(Field(f"s{i}", "x") for i in range(MOST_STRINGS + 1)),
        ["fields: at most 15 strings and 27 numbers"],
    ),
    "too many numbers": (
        tuple(Field(f"n{i}", "x", type="u64") for i in range(MOST_NUMBERS + 1)),
        ["fields: at most 15 strings and 27 numbers"],
    ),
}


@pytest.mark.parametrize(("fields", "problems"), FIELDS.values(), ids=list(FIELDS))
def test_fields_that_no_record_could_hold_are_wrong(fields: object, problems: list[str]) -> None:
    assert check_tracer(changed(Plain, fields=fields)) == problems


def test_as_many_and_as_long_fields_as_there_is_room_for_are_right() -> None:
    strings = [Field(f"s{i}", "x", length=16384 if i else 2, also="s1") for i in range(MOST_STRINGS)]
    numbers = [Field(f"n{i}", "x", type="address") for i in range(MOST_NUMBERS)]
    assert check_tracer(changed(Kernel, fields=(*strings, *numbers))) == []


@pytest.mark.parametrize("name", [one.name for one in OWN])
def test_no_field_shadows_one_that_every_event_has(name: str) -> None:
    wanted = [] if name in SHARED else [f"fields: {name!r}: every event has a field of that name; choose another"]
    assert check_tracer(changed(Plain, fields=(Field(name, "x"),))) == wanted


@pytest.mark.parametrize("name", ["int", "struct", "bpfd_length", *(member for _, member, _ in HEADER)])
def test_no_field_of_a_bpf_tracer_has_a_name_that_c_cannot_take(name: str) -> None:
    member = name.partition("[")[0]
    fields = (Field(member, "x", type="u64"),)
    assert any(problem.startswith(f"fields: {member!r}: ") for problem in check_tracer(changed(Kernel, fields=fields)))
    assert member in {own.name for own in OWN} or check_tracer(changed(Plain, fields=fields)) == []


def test_all_that_is_wrong_is_said_at_once() -> None:
    fields = (Field("pid", "x", length=0), Field("a b", "x", also="c"))
    problems = check_tracer(changed(Kernel, name="K", fields=fields, program=None, ring_bytes=1, probes=["x"]))
    assert len(problems) == 8, problems


PROGRAMS = [
    (None, "program: must be a pathlib.Path, the C file beside the module, not None"),
    (str(C_FILE), f"program: must be a pathlib.Path, the C file beside the module, not {str(C_FILE)!r}"),
    (Path("/nowhere/x\x1b.c"), "program: /nowhere/x\\x1b.c is no file; name the C file beside the module"),
    (C_FILE.parent, f"program: {C_FILE.parent} is no file; name the C file beside the module"),
]


@pytest.mark.parametrize(("program", "said"), PROGRAMS, ids=["none", "text", "absent", "directory"])
def test_the_program_of_a_bpf_tracer_is_a_file(program: object, said: str) -> None:
    assert check_tracer(changed(Kernel, program=program)) == [said]


@pytest.mark.parametrize("size", [0, -4096, 1, 2048, 4097, 12288, 65536.0, "65536", True])
def test_a_ring_that_the_kernel_would_not_make_is_wrong(size: object) -> None:
    [problem] = check_tracer(changed(Kernel, ring_bytes=size))
    assert problem == f"ring_bytes: must be a power of two of at least 4096, not {size!r}"


@pytest.mark.parametrize("counts", [["full"], ("Full",), ("lost",), (1,), tuple("abcdef")])
def test_counts_that_there_is_no_room_for_or_that_are_no_names_are_wrong(counts: object) -> None:
    [problem] = check_tracer(changed(Kernel, counts=counts))
    assert problem == f"counts: must be a tuple of at most 5 names, not {counts!r}"
    assert check_tracer(changed(Kernel, counts=("full", "stale"))) == []


@given(st.integers(min_value=-(1 << 40), max_value=1 << 40) | st.integers(0, 40).map(lambda bits: 1 << bits))
def test_the_sizes_of_rings_are_the_powers_of_two_from_a_page_on(size: int) -> None:
    assert (check_tracer(changed(Kernel, ring_bytes=size)) == []) == (size in {1 << bits for bits in range(12, 41)})


@pytest.mark.parametrize("settings", [None, ["path"], {"path": 7}, {7: "x"}])
def test_settings_give_each_key_a_line_of_text(settings: object) -> None:
    assert check_action(changed(Act, settings=settings)) == [
        f"settings: must give each key a line of text, not {settings!r}"
    ]


def test_what_a_responder_says_of_itself_is_checked() -> None:
    assert check_action(changed(Act, responds=True, acts_on="machine", undo_after_s=-1)) == [
        'acts_on: must be "process" or "container", not \'machine\'',
        "undo_after_s: must be a number of seconds, not -1",
    ]
