"""The documentation is correct: its code runs, its commands parse, and its links resolve."""

from __future__ import annotations

import ast
import csv
import fnmatch
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import drawn
import pomona
from browser import CHROMIUM, chromium
from places import REPOSITORY
from pomona import errors
from pomona.cli.main import app
from pomona.cli.parameters import in_options

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
HOOKS = runpy.run_path(str(DOCS / "hooks.py"))
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
    result = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCED.finditer(text):
            if match["language"] == language:
                before = text[: match.start()]
                marker = NOT_RUN.search(before)
                line = before.count("\n") + 2  # the line number of the block's first line
                reason = marker["reason"] if marker else None
                result.append(Block(page, line, match["text"], reason))
    return result


def commands(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """The full names of a command and of its subcommands: `pomona`, `pomona extract`, ..."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    deeper = (path for last, subcommand in below for path in commands(f"{name} {last}", subcommand))
    return [(name, command), *deeper]


# Code --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:  # noqa: ARG001
    """A folder with drawn pictures in `photos` and their features in `features`."""
    encoder = pomona.build_encoder("efficientnet_lite0")
    folder = tmp_path_factory.mktemp("example")
    drawn.tree(folder / "photos")
    pomona.extract(
        folder / "photos",
        folder / "features",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=1),
    )
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
    exec(code, {"__name__": "__main__"})  # noqa: S102 - the test runs the page's own code


# Commands ----------------------------------------------------------------------------------------


def parse(line: str) -> None:
    """Parse a shell line as `pomona` would, without running it.

    Raises:
        click.UsageError: no such command or option, a missing argument, or an invalid value.
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
        name, subcommand, rest = command.resolve_command(context, rest)
        assert subcommand is not None
        command = subcommand
        context = click.Context(command, context, info_name=name, **command.context_settings)
    with suppress(click.exceptions.Exit):  # --help and --version exit here
        command.make_context(context.info_name, rest, context.parent)


def typed(block: Block) -> list[str]:
    """The commands typed at the prompt of a console block."""
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
def test_a_command_that_does_not_exist_is_detected(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


def run_page(name: str, count: int, folder: Path) -> str:
    """Run the commands of a page in a folder, and return what they print."""
    page = [block for block in blocks("console") if block.page.name == name]
    lines = [line for block in page if not block.not_run for line in typed(block)]
    assert len(lines) == count
    programs = Path(sys.executable).parent
    completed = subprocess.run(
        ["bash", "-e", "-u", "-c", "\n".join(lines)],
        cwd=folder,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_the_commands_of_getting_started_run_as_printed(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    printed = run_page("getting-started.md", 8, tmp_path)
    assert "200 ok, 3 failed" in printed
    assert "nothing to do: 203 images already done" in printed
    right = re.search(r"accuracy: [\d.]+, (\d+) of 40 images right", printed)
    assert right
    assert int(right[1]) >= 36  # paths decide which images are tested
    assert re.search(r"leaks: \d+ of 40 test images are nearly the same as a training", printed)
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_the_commands_of_the_page_on_words_run_as_printed(
    tmp_path: Path,
    cache: Path,  # noqa: ARG001 - the commands use it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn.tree(tmp_path / "photos")
    clip = REPOSITORY / "tests" / "goldens" / "text" / "clip"
    shutil.copytree(clip, tmp_path / "clip-vit-base-patch32")
    run_page("text-search.md", 7, tmp_path)
    with (tmp_path / "labels.csv").open(newline="") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert labels <= {"apple", "kiwi", "quince", ""}
    assert (tmp_path / "found.png").exists()
    (code,) = (block for block in blocks("python") if block.page.name == "text-search.md")
    monkeypatch.chdir(tmp_path)
    exec(code.text, {"__name__": "__main__"})  # noqa: S102 - the test runs the page's own code


# References --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_on_the_pages_exist(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    named = set(re.findall(r"`([\w./*-]+\.(?:py|js))`", prose))
    folders = ("benchmarks", "docs", "examples", "fuzzing", "src", "tests")
    files = [path.as_posix() for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    missing = [name for name in named if not fnmatch.filter(files, f"*/{name}")]
    assert missing in ([], ["job.py"])  # the program that the page asks the reader to write


def packages(worker: str) -> list[str]:
    """Packages that a driver needs by spark.md, and a worker needs (`yes`) or not (`no`)."""
    page = (DOCS / "spark.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| (?P<names>[a-z0-9, -]+) \| yes \| {worker}\b", page, re.MULTILINE)
    assert row
    return row["names"].split(", ")


def test_the_pages_name_every_package_that_workers_need() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.split(r"[><=]", line)[0] for line in project["dependencies"]]
    assert sorted(["pomona", *needed]) == sorted(packages("yes") + packages("no"))
    recipes = (DOCS / "spark-recipes.md").read_text(encoding="utf-8")
    packed = re.search(r"worker/bin/pip install -c constraints.txt (?P<names>.+)", recipes)
    assert packed
    assert {"pomona", *packed["names"].split()} == {*packages("yes"), "pandas"}


def test_workers_import_none_of_the_other_packages() -> None:
    script = (
        f"import sys; sys.modules |= dict.fromkeys({packages('no')}); "
        "import pomona.spark.dataframe.task, pomona.processes.isolated_main, "
        "pomona.runtime.openvino; pomona.runtime.openvino.import_openvino()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def messages() -> list[str]:
    """The messages in the first column of the tables in errors.md."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]* [^`]*)` \|", page, re.MULTILINE)


def strings_of_the_package() -> list[str]:
    """Every string in the source, as the command line prints it.

    `...` stands for each value of an f-string.
    """
    result = []
    for path in (REPOSITORY / "src" / "pomona").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "") for part in node.values]
                texts = [part if isinstance(part, str) else "..." for part in parts]
                result.append("".join(texts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                result.append(node.value)
    return [in_options(text) for text in result]


def test_messages_on_the_errors_page_occur_in_the_program() -> None:
    strings = strings_of_the_package()
    assert len(messages()) > 30
    for message in messages():
        parts = [re.escape(part.strip()) for part in message.split("...") if part.strip()]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        assert any(pattern.search(text) for text in strings), f"not in the source: {message}"


# The command line --------------------------------------------------------------------------------


def expanded_cli_page() -> str:
    text: str = HOOKS["expand_help"]((DOCS / "cli.md").read_text(encoding="utf-8"))
    return text


@pytest.mark.parametrize(("name", "command"), commands("pomona", app))
def test_every_command_and_option_is_on_the_cli_page(name: str, command: click.Command) -> None:
    _, heading, rest = expanded_cli_page().partition(f"\n## {name}\n")
    assert heading
    section, _, _ = rest.partition("\n## ")
    context = click.Context(command, info_name=name, **app.context_settings)
    for parameter in command.get_params(context):
        for option in (*parameter.opts, *parameter.secondary_opts):
            shown = option if option.startswith("-") else parameter.human_readable_name
            assert re.search(rf"(?<![\w-]){re.escape(shown)}(?![\w-])", section), shown


def test_help_on_the_cli_page_equals_that_of_an_80_column_terminal() -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "pomona", "extract", "--help"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"```text\n{completed.stdout}```" in expanded_cli_page()


def test_a_command_missing_from_the_cli_page_is_an_error() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="pomona train"):
        HOOKS["expand_help"](page.replace("<!-- help: pomona train -->", ""))


# The Python API ----------------------------------------------------------------------------------


def test_every_public_name_is_on_the_python_api_page() -> None:
    pytest.importorskip("pyspark", reason="names of pomona.spark need PySpark")
    page = HOOKS["expand_names"]((DOCS / "api.md").read_text(encoding="utf-8"))
    shown = re.findall(r"^::: pomona\.(.+)$", page, re.MULTILINE)
    assert len(shown) == len(set(shown))
    names = {name for name in pomona.__all__ if not inspect.ismodule(getattr(pomona, name))}
    assert names - {"__version__"} <= set(shown)
    assert {name.rpartition(".")[2] for name in shown} >= {"ImageFeaturizer", *errors.__all__}
    assert {"spark.read_features", "sklearn.ImageFeaturizer"} <= set(shown)


def test_a_public_name_without_a_docstring_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark", reason="names of pomona.spark need PySpark")

    def undocumented() -> None:
        pass

    monkeypatch.setattr(pomona, "extract", undocumented)
    with pytest.raises(ValueError, match=r"pomona\.extract has no docstring"):
        HOOKS["expand_names"]("<!-- names: pomona -->")


# Links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_resolve_to_files(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = {match["target"].partition("#")[0] for match in LINK.finditer(prose)}
    relative = {target for target in targets if target and ":" not in target}
    assert [target for target in sorted(relative) if not (page.parent / target).exists()] == []


def test_the_navigation_or_the_list_of_decisions_links_to_every_page() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    decisions = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("decisions/[0-9]*.md")}
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - decisions
    assert pages == {page for page in listed if (DOCS / page).exists()}
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    entries = re.findall(r"\[(?P<title>[^]]+)\]\((?P<file>[0-9][^)]+)\)", index)
    headings = {
        page: (DOCS / page).read_text(encoding="utf-8").split("\n")[0] for page in decisions
    }
    assert {f"decisions/{file}": f"# {title}" for title, file in entries} == headings


# The site ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="make docs installs MkDocs")
    folder = tmp_path_factory.mktemp("site")
    completed = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return folder


def test_the_site_requests_nothing_from_other_servers(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
        r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//|@import|url\([\"']?(?:https?:)?//"
    )
    external = [
        f"{path.relative_to(site)}: {match[0]}"
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for match in loaded.finditer(path.read_text(encoding="utf-8"))
    ]
    assert external == []


def test_the_site_contains_every_public_name_and_command(site: Path) -> None:
    api = (site / "api.html").read_text(encoding="utf-8")
    names = {*pomona.__all__, "ImageFeaturizer"} - {"__version__", "spark"}
    assert [name for name in sorted(names) if f'id="pomona.{name}"' not in api] == []
    cli = (site / "cli.html").read_text(encoding="utf-8")
    ids = [name.replace(" ", "-") for name, _ in commands("pomona", app)]
    assert [one for one in ids if f'id="{one}"' not in cli] == []


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_search_works_without_a_server_or_a_network(site: Path, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.open(site / "index.html")
        page.value(
            "document.querySelector('[data-md-toggle=search]').click();"
            "search = document.querySelector('.md-search__input');"
            "search.focus(); search.value = 'fingerprint';"
            "search.dispatchEvent(new Event('input', {bubbles: true})); true"
        )
        page.wait_for("document.querySelectorAll('.md-search-result__item').length > 0")
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
