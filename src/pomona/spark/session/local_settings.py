"""Settings of Spark on this machine, read before a JVM runs.

Spark reads them itself, in `spark-submit`'s order. Pomona reads them only to leave the user's
settings as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["conf_folder", "has_java_options", "master_in_settings", "spark_home"]

_JAVA_OPTIONS = (
    "SPARK_SUBMIT_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
)


def spark_home() -> Path:
    """Return the folder of Spark's installation: `$SPARK_HOME`, else PySpark's own."""
    import pyspark

    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)


def conf_folder() -> Path:
    """Return the folder of Spark's settings; it need not exist."""
    folder = os.environ.get("SPARK_CONF_DIR")
    return Path(folder) if folder else spark_home() / "conf"


def has_java_options() -> bool:
    """Return whether options of the driver's JVM are set, or may be set."""
    if any(os.environ.get(name) for name in ("PYSPARK_SUBMIT_ARGS", *_JAVA_OPTIONS)):
        return True
    return any((conf_folder() / name).exists() for name in ("spark-defaults.conf", "spark-env.sh"))


def master_in_settings() -> str | None:
    """Return the master in `PYSPARK_SUBMIT_ARGS` or `spark-defaults.conf`."""
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS", "")
    if found := re.search(r"(?:--master[\s=]+|\bspark\.master=)[\"']?([^\s\"']+)", arguments):
        return found[1]
    try:
        defaults = (conf_folder() / "spark-defaults.conf").read_text(errors="replace")
    except OSError:
        return None
    # In a Java properties file, a key ends at white space, `=` or `:`.
    found = re.search(r"^[ \t]*spark\.master[ \t]*[=: \t][ \t]*(\S+)", defaults, re.MULTILINE)
    return found[1] if found else None
