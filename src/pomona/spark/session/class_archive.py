"""The JVM options that keep Spark's classes in an archive between local runs.

A JVM from version 19 on writes the archive, checks it and replaces it by itself
(`-XX:+AutoCreateSharedArchive`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

__all__ = ["archive_options", "java_version"]

_FIRST_VERSION = 19
_OTHERS_CAN_WRITE = 0o022
_UNSAFE_CHARACTERS = frozenset('"\\\n:')  # Spark's quoting, and the JVM's list of archives


def archive_options(folder: Path) -> str:
    """Return the JVM options for a class archive, or an empty string.

    The JVM trusts the archive as it trusts a jar. Only a folder that belongs to this user, and
    that nobody else can write, is used.

    Args:
        folder: the folder for the archive. It is created if it does not exist.

    Returns:
        An empty string if Java is older than 19 or of unknown version, or if the folder cannot be
        used.
    """
    version = java_version()
    if version is None or version < _FIRST_VERSION or _UNSAFE_CHARACTERS & set(str(folder)):
        return ""
    import pyspark

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except OSError:
        return ""
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_CAN_WRITE:
        return ""
    file = folder / f"spark-{pyspark.__version__}-java-{version}.jsa"
    # The JVM's remarks about the archive are not errors of the run.
    quiet = "-Xlog:cds=off -Xlog:cds+dynamic=off"
    return f'{quiet} -XX:+AutoCreateSharedArchive -XX:SharedArchiveFile="{file}"'


def java_version() -> int | None:
    """Return the major version of the Java that Spark starts, or None if it is unknown.

    The JDK's `release` file has the version, so no process is started.
    """
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
    try:
        release = (java.resolve().parent.parent / "release").read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(found[1]) if found else None
