"""Optional packages: whether they are installed, and the command that installs them.

The name `pomona` on the public package index belongs to another project. The command therefore
never names it: in a checkout it installs the extra of the source folder, elsewhere it installs the
packages of the extra themselves.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pomona.errors import UsageError

__all__ = ["check_extra", "install_command", "is_installed"]

_EXTRA_OF = re.compile(r"""\bextra\s*==\s*["']([\w-]+)["']""")


def check_extra(
    extra: str, what: str, *modules: str, error: type[UsageError] = UsageError, instead: str = ""
) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Args:
        extra: the name of the extra in `pyproject.toml`.
        what: the start of the message, such as `a plot needs matplotlib`.
        modules: the required modules.
        error: the class of the exception.
        instead: an alternative for the user, appended to the message.

    Raises:
        UsageError: a module is missing. The message has the command that installs it.
    """
    if not all(map(is_installed, modules)):
        raise error(f"{what}: {install_command(extra)}{instead}")


def is_installed(module: str) -> bool:
    """Return whether a module can be found; it is not imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or it is half-loaded
        return False


def install_command(extra: str) -> str:
    """Return the shell command that installs the packages of an extra for this Pomona."""
    folder, requirements = _installed()
    if folder:
        here = "" if folder == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
        return f"{here}{_pip_install()} '.[{extra}]'"
    wanted = []
    for requirement in requirements:
        package, _, marker = requirement.partition(";")
        found = _EXTRA_OF.search(marker)
        if found and found[1] == extra:
            wanted.append(shlex.quote(package.strip()))
    return f"{_pip_install()} {' '.join(wanted)}"


def _installed() -> tuple[Path | None, list[str]]:
    """Return the source folder of this installation, if there is one, and its requirements."""
    checkout = Path(__file__).parents[2]
    try:
        about = distribution("pomona")
    except PackageNotFoundError:  # imported from a folder on the path
        return checkout, []
    if (checkout / "pyproject.toml").is_file():  # an editable installation
        return checkout, []
    origin = json.loads(about.read_text("direct_url.json") or "{}")
    if "dir_info" in origin:
        folder = Path(unquote(urlsplit(origin["url"]).path))
        if (folder / "pyproject.toml").is_file():
            return folder, []
    return None, about.requires or []


def _pip_install() -> str:
    """Return the command that installs into this Python: `pip` only if the shell finds this one's.

    An environment made by uv has no pip, so the command is uv's.
    """
    if not is_installed("pip") and shutil.which("uv"):
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip install"
    return f"{shlex.quote(sys.executable)} -m pip install"
