"""Help in sections: the options of a command by purpose, the commands of a group in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pomona.cli.parameters import register
from pomona.cli.paths import unquoted_glob

__all__ = ["OrderedGroup", "SectionedCommand"]


class SectionedCommand(click.Command):
    """A command whose help lists its options in sections.

        @click.command(cls=SectionedCommand, sections={"Network": "--model --weights"})

    Args:
        arguments: of `click.Command`.
        sections: from a section's title to the options in it, by their long names. Options that
            no section has are listed last.
        settings: of `click.Command`.
    """

    def __init__(
        self, *arguments: Any, sections: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.sections = {title: names.split() for title, names in (sections or {}).items()}
        register(self.params)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. More than one SOURCE is usually a glob that the shell expanded.

        Raises:
            UsageError: there are too many arguments.
        """
        names = [p.name for p in self.params if p.param_type_name != "option"]
        has_source = "source" in names
        ctx.allow_extra_args = ctx.allow_extra_args or has_source
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out if an option has no value
            raise
        if has_source and ctx.args and not ctx.resilient_parsing:
            at = names.index("source")
            given = [*(str(ctx.params.get(name or "")) for name in names[at:]), *ctx.args]
            images = given[: len(given) - len(names[at + 1 :])]  # without TABLE, which is last
            advice = f"quote it: '{glob}'" if (glob := unquoted_glob(images)) else "quote it"
            raise click.UsageError(
                f"too many arguments, from {ctx.args[0]!r} on: SOURCE is one argument; if it is a "
                f"glob that the shell has expanded, {advice}",
                ctx,
            )
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in their order, and in each the options in the order of its names."""
        records = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                records[parameter.opts[-1]] = record
        chosen = {
            title: [records.pop(name) for name in names if name in records]
            for title, names in self.sections.items()
        }
        title = "Other options" if any(chosen.values()) else "Options"
        for heading, rows in {**chosen, title: list(records.values())}.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class OrderedGroup(click.Group):
    """A group whose help lists its commands in the order in which they were added.

    If no command is given, it shows the help on stderr and exits with 2. click does so itself only
    since 8.2; click 8.1 exits with 0.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, of which there must be at least one."""
        if not args and not ctx.resilient_parsing:  # which is how a shell's completion asks
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click gives it
        """Return the names of the commands."""
        return list(self.commands)
