"""Commands that are named at once and imported when they are called."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from typer.core import TyperCommand, TyperGroup

__all__ = ["CommandSpec", "LazyCommand", "LazyGroup"]


@dataclass(frozen=True)
class CommandSpec:
    """Where a command lives, and what the root's help says of it.

    Attributes
    ----------
    module, attribute
        The Typer application, e.g. ``koinon.cli.partner`` and ``app``.
    summary
        One line, shown by ``koinon --help`` without importing the module.
    panel
        The heading it stands under.
    """

    module: str
    summary: str
    panel: str
    attribute: str = "app"


class LazyCommand(TyperCommand):
    """Stands for a command until somebody calls it."""

    def __init__(self, name: str, spec: CommandSpec) -> None:
        super().__init__(name, help=spec.summary, rich_help_panel=spec.panel, rich_markup_mode="rich")
        self.spec = spec

    def load(self) -> click.Command:
        """Import the module and return the real command."""
        from typer.main import get_command

        command = get_command(getattr(import_module(self.spec.module), self.spec.attribute))
        command.name = self.name
        command.params = [p for p in command.params if p.name not in ("install_completion", "show_completion")]
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to the real command: its context, options and help are the ones that count."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(TyperGroup):
    """A group whose commands come from :class:`CommandSpec`, in the order given."""

    def __init__(self, *, specs: dict[str, CommandSpec], **attributes: Any) -> None:
        super().__init__(commands={name: LazyCommand(name, spec) for name, spec in specs.items()}, **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the specs: the order in which a newcomer needs them."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; click suggests near names itself, and Typer would say the same once more."""
        return click.Group.resolve_command(self, ctx, args)
