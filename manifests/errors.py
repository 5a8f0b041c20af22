"""The exception tree. Each text says what was expected, what came and what to do.

A :class:`LayerkitError` is something the user can mend: the command line prints one line and no traceback. Below it are
:class:`UsageError` (wrong option, recipe or folder) and :class:`MissingWeights` (not on this machine), both exit status
2; :class:`RunError` (it ran and failed) with :class:`ShardError` (a shard that does not hold what its contract says),
both exit status 1; and :class:`BadImage` (one picture that cannot be used: a reject row, never a crash).
"""


class LayerkitError(Exception):
    """Base of every error that layerkit raises on purpose."""

    exit_status = 1


class UsageError(LayerkitError):
    """An option, a recipe or a folder cannot be used as given."""

    exit_status = 2


class MissingWeights(LayerkitError):
    """A stage needs pre-trained weights that are neither in the hub cache nor under ``--weights``."""

    exit_status = 2


class RunError(LayerkitError):
    """The work began and could not be finished."""


class ShardError(RunError):
    """A shard breaks its contract: truncated, a member missing, an unknown member, a bad record."""


class BadImage(LayerkitError):
    """A picture that cannot be used. ``reason`` is a short snake_case word for the reject row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)
