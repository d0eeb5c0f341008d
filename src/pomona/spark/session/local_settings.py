"""What this machine's own settings say of Spark, read before any JVM runs.

Spark reads them itself, in `spark-submit`'s order. Here it is only looked up whether they say
anything that a run of ours must leave alone.
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
    """The folder of Spark's installation: `$SPARK_HOME`, else PySpark's own."""
    import pyspark

    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)


def conf_folder() -> Path:
    """The folder of Spark's settings; it need not exist."""
    given = os.environ.get("SPARK_CONF_DIR")
    return Path(given) if given else spark_home() / "conf"


def has_java_options() -> bool:
    """Whether somebody has set, or may have set, options of the driver's JVM."""
    if any(os.environ.get(name) for name in ("PYSPARK_SUBMIT_ARGS", *_JAVA_OPTIONS)):
        return True
    return any((conf_folder() / name).exists() for name in ("spark-defaults.conf", "spark-env.sh"))


def master_in_settings() -> str | None:
    """The master that `PYSPARK_SUBMIT_ARGS` or `spark-defaults.conf` names."""
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS", "")
    if found := re.search(r"(?:--master[\s=]+|\bspark\.master=)[\"']?([^\s\"']+)", arguments):
        return found[1]
    try:
        defaults = (conf_folder() / "spark-defaults.conf").read_text(errors="replace")
    except OSError:
        return None
    # A file of Java's properties: a key ends at white space, `=` or `:`.
    found = re.search(r"^[ \t]*spark\.master[ \t]*[=: \t][ \t]*(\S+)", defaults, re.MULTILINE)
    return found[1] if found else None
