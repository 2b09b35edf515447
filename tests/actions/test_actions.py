"""What holds for every built-in action."""

from __future__ import annotations

import importlib

from bpfd.actions import bpfd_register_actions


def test_every_action_says_in_a_line_what_it_does_and_what_can_be_set() -> None:
    for action in bpfd_register_actions():
        assert action.__doc__
        assert action.__doc__.splitlines()[0].endswith((".", ";"))
        assert all(isinstance(doc, str) and doc for doc in action.settings.values())


def test_every_action_has_a_file_and_a_name_of_its_own() -> None:
    actions = bpfd_register_actions()
    assert len({action.name for action in actions}) == len(actions)
    for action in actions:
        module = importlib.import_module(action.__module__)
        assert module.__doc__
        assert module.__doc__.startswith(f"{action.name}: ") or "another name of" in (action.__doc__ or "")
