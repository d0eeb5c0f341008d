"""What MkDocs cannot do by its configuration: help texts, public names, and links out of docs/.

`cli.md` has markers such as `<!-- help: pomona extract -->`. Each becomes the command's own help.

`api.md` has markers such as `<!-- names: pomona.building pomona.encoder -->`. Each becomes the
documentation of the names in `pomona.__all__` whose module begins with one of these prefixes. If
several prefixes match, the longest one decides. So the page follows `pomona.__all__`.

Pages link to files elsewhere in the repository, such as `../benchmarks/RESULTS.md`. These files
become pages and files of the site, and the links to them are rewritten.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
IN_NAVIGATION = ("CONTRIBUTING.md", "CHANGELOG.md")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?(?=\))")
HELP = re.compile(r"^<!-- help: (?P<command>.+) -->$", re.MULTILINE)
NAMES = re.compile(r"(?P<heading>^## .+\n\n)?^<!-- names: (?P<prefixes>.+) -->$", re.MULTILINE)


# The Python API ----------------------------------------------------------------------------------


def expand_names(text: str) -> str:
    """The text of `api.md`, with one mkdocstrings block for each public name.

    A heading without names is left out.

    Raises:
        ValueError: a public name has no docstring, or no marker takes its module.
    """
    prefixes = [prefix for marker in NAMES.finditer(text) for prefix in marker["prefixes"].split()]
    blocks: dict[str, list[tuple[bool, str]]] = {}
    for name, value in public_names().items():
        if not value.__doc__ or value.__doc__.startswith(f"{name}("):  # a dataclass writes its own
            raise ValueError(f"pomona.{name} has no docstring")
        prefix = _longest_prefix(value.__module__, prefixes)
        if prefix is None:
            raise ValueError(f"no marker of api.md takes pomona.{name} of {value.__module__}")
        label = name.rpartition(".")[2]
        block = f"::: pomona.{name}\n    options:\n      toc_label: {label}\n"
        blocks.setdefault(prefix, []).append((inspect.isclass(value), block))

    def expanded(marker: re.Match[str]) -> str:
        found = [block for prefix in marker["prefixes"].split() for block in blocks.get(prefix, [])]
        under = "\n".join(block for _, block in sorted(found))  # functions before classes
        return (marker["heading"] or "") + under if under else ""

    return NAMES.sub(expanded, text)


def public_names() -> dict[str, Any]:
    """What users may import, by its name without `pomona.`: `extract`, `spark.read_features`.

    What `pomona` exports is not listed again under its module.
    """
    import pomona
    import pomona.errors
    import pomona.sklearn

    values = {name: getattr(pomona, name) for name in {*pomona.__all__, "ImageFeaturizer"}}
    del values["__version__"]
    modules = {name: value for name, value in values.items() if inspect.ismodule(value)}
    modules |= {"errors": pomona.errors, "sklearn": pomona.sklearn}
    for module, value in modules.items():
        members = {name: getattr(value, name) for name in value.__all__}
        new = {name: member for name, member in members.items() if values.get(name) is not member}
        values |= {f"{module}.{name}": member for name, member in new.items()}
    return {name: value for name, value in values.items() if name not in modules}


def _longest_prefix(module: str, prefixes: list[str]) -> str | None:
    fitting = [prefix for prefix in prefixes if f"{module}.".startswith(f"{prefix}.")]
    return max(fitting, key=len, default=None)


# The command line --------------------------------------------------------------------------------


def expand_help(text: str) -> str:
    """The text of `cli.md`, with the help of each command as a terminal of 80 columns shows it.

    Raises:
        ValueError: a marker names no command, or a command has no marker.
    """
    from pomona.cli.main import app

    helps = dict(_helps(app, click.Context(app, info_name="pomona", **_settings(app))))
    marked = {marker["command"] for marker in HELP.finditer(text)}
    if different := marked ^ set(helps):
        raise ValueError(f"the markers of cli.md and the commands differ: {sorted(different)}")
    return HELP.sub(lambda marker: f"```text\n{helps[marker['command']]}\n```", text)


def _helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, context.get_help()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.commands[name]
            yield from _helps(below, click.Context(below, context, name, **_settings(below)))


def _settings(command: click.Command) -> dict[str, Any]:
    return command.context_settings | {"terminal_width": 80 - 2}  # click leaves two columns free


# Links out of docs/ ------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that pages link to, and those that these link to."""
    from mkdocs.structure.files import File

    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    outside = set(IN_NAVIGATION)
    to_read = [*pages, *IN_NAVIGATION]
    while to_read:
        page = to_read.pop()
        text = FENCED.sub("", (REPOSITORY / page).read_text(encoding="utf-8"))
        targets = {_in_repository(page, link["path"]) for link in LINK.finditer(text)}
        for target in targets - outside:
            if not target.startswith("docs/") and (REPOSITORY / target).is_file():
                outside.add(target)
                to_read += [target] if target.endswith(".md") else []
    for path in sorted(outside):
        files.append(File.generated(config, path, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Expand the markers of `cli.md` and `api.md`, and make links fit the site."""
    uri = page.file.src_uri
    if uri == "api.md":
        markdown = expand_names(markdown)
    if uri == "cli.md":
        markdown = expand_help(markdown)
    source = uri if page.file.generated_by else f"docs/{uri}"

    def rewritten(link: re.Match[str]) -> str:
        target = _in_repository(source, link["path"])
        on_site = target.removeprefix("docs/")
        return posixpath.relpath(on_site, posixpath.dirname(uri) or ".") + (link["anchor"] or "")

    return LINK.sub(rewritten, markdown)


def _in_repository(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
