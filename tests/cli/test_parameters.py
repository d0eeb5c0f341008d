"""Library messages name parameters; the command line shows the matching options instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pomona
from pomona.cli.main import app
from pomona.cli.parameters import in_options

PACKAGE = Path(pomona.__file__).parent

OPTION = re.compile(r"(?:^|[\s'\"(])(--[a-z-]+)")
OF_OTHERS = {"--packages", "--jars", "--archives", "--python"}  # options of spark-submit and uv

PYTHON_ONLY = {
    "spark",
    "writing",
}  # no command has these parameters, so no command raises their messages


def strings_of_the_library() -> Iterator[tuple[str, str]]:
    """The location and text of each string outside `cli`, except docstrings."""
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE)
        if where.parts[0] == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
        docstrings = {id(statement.value) for statement in statements}
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
        for node in constants:
            if isinstance(node.value, str) and id(node) not in docstrings:
                yield f"{where}:{node.lineno}", node.value


def leaves(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from leaves(each)
    else:
        yield command


OPTIONS = {name for command in leaves(app) for each in command.params for name in each.opts}
ARGUMENTS = {
    (each.name or "").upper()
    for command in leaves(app)
    for each in command.params
    if isinstance(each, click.Argument)
}


def test_no_library_message_names_an_option() -> None:
    result = [
        (where, text)
        for where, text in strings_of_the_library()
        if set(OPTION.findall(text)) - OF_OTHERS
    ]
    assert result == []


def test_every_parameter_in_a_message_belongs_to_a_command() -> None:
    named = {
        name for _, text in strings_of_the_library() for name in re.findall(r"`([a-z_]+)`", text)
    }
    assert len(named) > 30
    for name in named - PYTHON_ONLY:
        assert in_options(f"`{name}`") in OPTIONS | ARGUMENTS, name


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("raise it with `max_pixels`", "raise it with --max-pixels"),
        ("choose others with `globs`", "choose others with --glob"),
        ("raise `memory_gib`", "raise --memory"),
        ("`image_timeout_s` 0", "--image-timeout 0"),
        ("give another `target`", "give another --output"),
        ("`k` 9", "-k 9"),
        ("set `map` to pca", "set --map to pca"),
        ("a path below `source`", "a path below SOURCE"),
        ("give the file as `model`", "give the file as --model"),
        ("Keras: the layer `dense_7` or `dense`", "Keras: the layer `dense_7` or `dense`"),
    ],
)
def test_parameters_are_shown_as_options(message: str, expected: str) -> None:
    assert in_options(message) == expected
