"""Help at 80 columns: options in sections, commands in workflow order, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from pomona.cli.main import app
from pomona.cli.sections import SectionedCommand


def _all(
    command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    settings = command.context_settings | {
        "terminal_width": 78
    }  # click leaves two of the 80 columns free
    context = click.Context(command, parent, info_name=command.name or "pomona", **settings)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _all(command.commands[name], context)


COMMANDS = dict(_all(app))
SECTIONED = [p for p, c in COMMANDS.items() if getattr(c.command, "sections", None)]


def test_commands_are_listed_in_workflow_order() -> None:
    listed = COMMANDS["app"].get_help().partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == [
        *("extract", "look", "inspect", "check", "search", "duplicates", "train", "classify"),
        *("project", "report", "export", "models", "encoder"),
    ]


@pytest.mark.parametrize("path", [p for p, c in COMMANDS.items() if hasattr(c.command, "commands")])
def test_no_command_summary_is_cut_off_at_80_columns(path: str) -> None:
    listed = COMMANDS[path].get_help().partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(COMMANDS[path].command.commands)  # type: ignore[attr-defined]
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_80_columns(path: str) -> None:
    lines = COMMANDS[path].get_help().splitlines()
    assert [line for line in lines if len(line) > 78] == []


@pytest.mark.parametrize("path", SECTIONED)
def test_every_option_is_in_one_section_and_every_section_option_exists(path: str) -> None:
    command = COMMANDS[path].command
    assert isinstance(command, SectionedCommand)
    named = [name for names in command.sections.values() for name in names]
    has = [p.opts[-1] for p in command.params if isinstance(p, click.Option)]
    assert sorted(named) == sorted(has)
    text = COMMANDS[path].get_help()
    assert [title for title in command.sections if f"\n{title}:\n" not in text] == []


def test_a_command_with_many_options_has_sections() -> None:
    many = [p for p, c in COMMANDS.items() if len(c.command.params) > 6]
    assert [path for path in many if path not in SECTIONED] == []


def test_options_without_a_section_are_listed_last() -> None:
    options = [click.Option(["--one"], help="1."), click.Option(["--two"], help="2.")]
    command = SectionedCommand("c", params=[*options], sections={"First": "--two"})
    text = click.Context(command).get_help()
    assert "First:\n  --two TEXT  2.\n\nOther options:\n  --one TEXT  1.\n" in text
