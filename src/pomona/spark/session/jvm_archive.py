"""An archive of the classes that Spark loads, so that the JVM of a local run starts sooner.

To start Spark is to load some ten thousand classes. The JVM can keep them as they lie in memory,
parsed and verified, and map that file the next time (application class-data sharing, JEP 350). It
checks that the file is of the same JVM and the same jars, and goes on without it where not; that
nobody else has written it is for us to see. docs/architecture.md has what that saves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from pomona.spark.session.local_settings import conf_folder, spark_home

__all__ = ["archive_options"]

_LAID_OUT_BY = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")
_TRIES = 2  # to write it: one may be cut off, and some JVMs never come to it
_OF_OTHERS = 0o022  # the mode of what others may write
_UNFIT = frozenset('"\\\n:')  # in a path: signs of Spark's quoting, or of a list of archives


def archive_options(folder: Path) -> str:
    """Options for Spark's JVM: to use its archive, or to write it when it ends.

    A JVM that is to write it starts 6 s later, so the first run on a machine only leaves a note
    that it was here: in a container that is thrown away there may be no second one. The note grows
    by a byte with each JVM that is told to write, and after two that is given up.

    The file's first bytes are written last, and a JVM that reads none there goes on without, so one
    that is killed on the way harms nothing: the next one writes the archive again.

    The JVM believes what lies in an archive, as it would a jar: only one is used that nobody but
    this user can have written.

    Args:
        folder: where the archive is to lie; it need not exist.

    Returns:
        The options; none where there is no place for the file.
    """
    path = folder / f"spark-{_setting()}.jsa"
    if _UNFIT & set(str(path)) or _has_files(conf_folder()):
        return ""  # where a folder on its class path has files, a JVM writes no archive
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_ours(folder):
        return ""
    if _is_whole(path):
        use = "SharedArchiveFile" if _is_ours(path) else ""
    else:
        use = "ArchiveClassesAtExit" if _note(path.with_suffix(".seen")) else ""
    if not use:
        return ""
    # What the JVM has to say of it is no error of the run; one before Java 13 knows nothing of it.
    quietly = "-XX:+IgnoreUnrecognizedVMOptions -Xlog:cds=off -Xlog:cds+dynamic=off"
    return f'{quietly} -XX:{use}="{path}"'


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return any(file.read(4))
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    """Whether it is there, and only this user can have written it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & _OF_OTHERS


def _note(path: Path) -> bool:
    """Note down a run; gives whether it is to try and write the archive."""
    try:
        tries = path.stat().st_size if path.exists() else -1
        if tries < _TRIES:
            with path.open("ab") as note:
                note.write(b"." * (tries >= 0))
    except OSError:  # no place for it, and so none for an archive
        return False
    return 0 <= tries < _TRIES


def _has_files(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _setting() -> str:
    """A digest of what decides which classes there are: the JVM, PySpark, and their settings."""
    import pyspark

    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
    jars = spark_home() / "jars"
    known = [
        pyspark.__version__,
        str(conf_folder()),
        *(os.environ.get(name, "") for name in _LAID_OUT_BY),
    ]
    for path in (java.resolve(), java.resolve().parent.parent / "release", jars):
        known.append(str(path))
        if path.exists():
            known.append(str(path.stat().st_mtime_ns))
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
