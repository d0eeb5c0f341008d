"""An archive of the classes that Spark loads, so that the JVM of a local run starts sooner.

To start Spark is to load some ten thousand classes. The JVM can keep them as they lie in memory,
parsed and verified, and map that file the next time (application class-data sharing, JEP 350). It
checks itself that the file is of the same JVM and the same jars, and goes on without it where not.
docs/spark.md has what that saves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

__all__ = ["archive_options"]

_LAID_OUT_BY = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")
_UNFIT = frozenset('"\\\n:')  # in a path: signs of Spark's quoting, or of a list of archives


def archive_options(folder: Path) -> str:
    """Options for Spark's JVM: to use its archive, or to write it when it ends.

    A JVM that is to write it starts 6 s later, so the first run on a machine only leaves a note
    that it was here: in a container that is thrown away there may be no second one.

    The file's first bytes are written last, and a JVM that reads none there goes on without, so one
    that is killed on the way harms nothing: the next one writes the archive again.

    Args:
        folder: where the archive is to lie; it need not exist.

    Returns:
        The options; none where there is no place for the file.
    """
    path = folder / f"spark-{_setting()}.jsa"
    if _UNFIT & set(str(path)):
        return ""
    if _is_whole(path):
        use = "SharedArchiveFile"
    elif path.with_suffix(".seen").exists():
        use = "ArchiveClassesAtExit"
    else:
        _leave_note(path.with_suffix(".seen"))
        return ""
    # What the JVM has to say of it is no error of the run.
    return f'-XX:{use}="{path}" -Xlog:cds=off -Xlog:cds+dynamic=off'


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return any(file.read(4))
    except OSError:
        return False


def _leave_note(path: Path) -> None:
    with contextlib.suppress(OSError):  # no place for it, and so none for an archive
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _setting() -> str:
    """A digest of what decides which classes there are: the JVM, PySpark, and their settings."""
    import pyspark

    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
    jars = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent) / "jars"
    known = [pyspark.__version__, *(os.environ.get(name, "") for name in _LAID_OUT_BY)]
    for path in (java.resolve(), java.resolve().parent.parent / "release", jars):
        known.append(str(path))
        if path.exists():
            known.append(str(path.stat().st_mtime_ns))
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
