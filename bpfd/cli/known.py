"""What rules may name on this machine, for commands that check rules without a daemon."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bpfd.cli import installed

if TYPE_CHECKING:
    from bpfd.catalogue import Catalogue
    from bpfd.rules.context import Known
    from bpfd.settings import Settings


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration (default: /etc/bpfd/bpfd.toml)")


def settings_of(args: argparse.Namespace) -> Settings:
    """The configuration. Raises SettingsError."""
    from bpfd.settings import load

    return load(args.config)


def known(settings: Settings) -> Known:
    """The installed tracers, and the installed actions with their configured instances."""
    return catalogue_and_known(settings)[1]


def catalogue_and_known(settings: Settings) -> tuple[Catalogue, Known]:
    """The same, with the tracers themselves."""
    from bpfd.catalogue import FieldsByTracer
    from bpfd.rules.context import Known

    catalogue = installed.catalogue()
    per_rule = {action.name: action.per_rule for action in installed.actions()}
    for name, table in settings.actions.items():
        per_rule[name] = per_rule.get(str(table.get("type", name)), ())
    return catalogue, Known(FieldsByTracer(catalogue), sorted(per_rule), per_rule, no_tracer=catalogue.problem)
