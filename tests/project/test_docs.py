"""What the pages say is true: their code runs, their commands parse, their links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import pomona
from conftest import REPOSITORY, draw_tree
from pomona.cli.main import app
from pomona.encoder.encoder import Encoder

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->\n\Z")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `not_run` is the reason in the marker on the line before."""

    page: Path
    line: int
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCED.finditer(text):
            if match["language"] == language:
                before = text[: match.start()]
                marker = NOT_RUN.search(before)
                line = before.count("\n") + 2  # of the block's first line
                reason = marker["reason"] if marker else None
                found.append(Block(page, line, match["text"], reason))
    return found


def commands(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """The command by its full name, and all those below it: `pomona`, `pomona extract`, ..."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    deeper = (found for last, made in below for found in commands(f"{name} {last}", made))
    return [(name, command), *deeper]


# Code --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder with drawn pictures in `photos` and their features in `features`."""
    folder = tmp_path_factory.mktemp("example")
    draw_tree(folder / "photos")
    pomona.extract(folder / "photos", folder / "features", encoder=encoder, workers=1)
    return folder


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_on_the_pages_runs(
    block: Block, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    if block.not_run:
        pytest.skip(block.not_run)
    shutil.copytree(example, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})  # noqa: S102 - the page's own code is what is tested


# Commands ----------------------------------------------------------------------------------------


def parse(line: str) -> None:
    """Parse a line of a terminal as `pomona` would, without running it.

    Raises:
        click.UsageError: no such command or option, a missing argument, a value that cannot be.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((at for at, word in enumerate(words) if set(word) <= set("();<>|&")), len(words))
    program, rest = words[0], words[1:end]
    if program != "pomona":
        return
    command: click.Command = app
    context = click.Context(app, info_name=program, **app.context_settings)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = click.Context(command, context, info_name=name, **command.context_settings)
    with suppress(click.exceptions.Exit):  # --help and --version end here
        command.make_context(context.info_name, rest, context.parent)


def typed(block: Block) -> list[str]:
    """What is typed at the prompt in a console block."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_commands_on_the_pages_parse(block: Block) -> None:
    assert typed(block), "a console block without a line that begins with '$ '"
    for line in typed(block):
        parse(line)


@pytest.mark.parametrize(
    "line",
    [
        "pomona harvest photos/",
        "pomona extract photos/ features/ --speed 9",
        "pomona extract photos/ # features/",
        "pomona extract photos/ features/ --workers none | head",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


# The page of the command line --------------------------------------------------------------------


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    script = runpy.run_path(str(DOCS / "generate_cli.py"))
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == script["page"](), "run: python docs/generate_cli.py"


def test_the_check_of_that_page_says_whether_it_is(tmp_path: Path) -> None:
    script = shutil.copy(DOCS / "generate_cli.py", tmp_path)

    def run(*options: str) -> int:
        done = subprocess.run([sys.executable, script, *options], check=False, capture_output=True)
        return done.returncode

    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    with (tmp_path / "cli.md").open("a") as page:
        page.write("more")
    assert run("--check") == 1


@pytest.mark.parametrize(("name", "command"), commands("pomona", app))
def test_every_command_and_option_is_on_that_page(name: str, command: click.Command) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    _, heading, rest = page.partition(f"\n## {name}\n")
    assert heading
    section, _, _ = rest.partition("\n## ")
    context = click.Context(command, info_name=name, **app.context_settings)
    for parameter in command.get_params(context):
        for option in (*parameter.opts, *parameter.secondary_opts):
            shown = option if option.startswith("-") else parameter.human_readable_name
            assert re.search(rf"(?<![\w-]){re.escape(shown)}(?![\w-])", section), shown


def test_help_on_that_page_is_what_a_terminal_of_80_columns_shows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pomona", "extract", "--help"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"```text\n{done.stdout}```" in (DOCS / "cli.md").read_text(encoding="utf-8")


# Links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_to_files(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = {match["target"].partition("#")[0] for match in LINK.finditer(prose)}
    relative = {target for target in targets if target and ":" not in target}
    assert [target for target in sorted(relative) if not (page.parent / target).exists()] == []
