"""What can go wrong and may be shown to the user: one line each, `where: what is wrong; what to do`."""

from __future__ import annotations

from collections.abc import Iterable


class BpfdError(Exception):
    """The base of every error that the user may see. The CLI prints its text and exits with 1."""


class UsageError(BpfdError):
    """A command line that can't be taken; the CLI exits with 2."""


class SettingsError(BpfdError):
    """The daemon's configuration file is wrong."""


class RuleError(BpfdError):
    """One or more problems of rule files, all of a file at once.

    `problems` are whole lines, `file:line: key: what is wrong; what to do`.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RuleExistsError(RuleError):
    """A rule of that name exists, and its replacement was not asked for."""


class RuleNotFoundError(RuleError):
    """There is no rule of that name (and tracer)."""


class PluginError(BpfdError):
    """A plugin breaks the contract; the text names the plugin and shows the offending part."""


class UnknownTracerError(BpfdError):
    """There is no tracer of that name; the text says what is near, or why that can't be known."""


class LoadError(BpfdError):
    """A tracer's program could not be compiled, loaded or attached; the text has the tracer's name and the cause."""


class GivenUpError(LoadError):
    """What was being loaded is not wanted any more: the daemon ends."""


class KernelError(BpfdError):
    """This machine lacks something that bpfd needs: root, BTF, tracefs."""


class ActionError(BpfdError):
    """An action could not be carried out."""


class ActionNotFoundError(ActionError):
    """There is no action of that name."""


class TargetGoneError(ActionError):
    """The process or container to act on has ended: there is nothing left to do."""


class RefusedError(ActionError):
    """The process or container is one that bpfd never acts on."""


class WithheldError(ActionError):
    """The response was not carried out on purpose: there have been too many, or its rule only observes."""


class MuteError(BpfdError):
    """A mute can't be made."""


class MuteNotFoundError(MuteError):
    """There is no mute of that id."""


class RetryLaterError(ActionError):
    """The receiver asks to be left alone for `after_s` seconds; a notifier raises it, and the alert is sent then."""

    def __init__(self, text: str, after_s: float) -> None:
        self.after_s = after_s
        super().__init__(text)


class RejectedError(ActionError):
    """The receiver will never take this alert; a notifier raises it, and the alert becomes a dead letter at once."""


class ApiError(BpfdError):
    """The daemon could not be reached, or refused a call."""
