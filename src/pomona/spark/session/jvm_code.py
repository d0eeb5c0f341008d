"""A few lines of Java, compiled in the driver's JVM.

Spark has a compiler, Janino, in every driver's JVM, for the code that it generates itself.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["compiled"]


def compiled(spark: SparkSession, body: str, *interfaces: str) -> Any:
    """Return an object with the methods of a class body; None if the JVM forbids compiling.

    Args:
        spark: a classic session.
        body: Java for Janino: without generics, with fully qualified names.
        interfaces: interfaces that the class implements, in addition to
            `java.util.function.BiFunction`, whose `apply(Object, Object)` is called from Python.
    """
    from py4j.protocol import Py4JError

    context: Any = spark.sparkContext
    jvm = context._jvm
    try:
        # The class loader with Hadoop's and Spark's classes.
        loader = spark._jsparkSession.getClass().getClassLoader()
        names = ["java.util.function.BiFunction", *interfaces]
        classes = context._gateway.new_array(jvm.java.lang.Class, len(names))
        for number, name in enumerate(names):
            classes[number] = loader.loadClass(name)
        compiler = jvm.org.codehaus.janino.ClassBodyEvaluator()
        compiler.setImplementedInterfaces(classes)
        # Py4J caches classes by name, so each class needs a new name.
        compiler.setClassName(f"pomona.Compiled_{uuid.uuid4().hex}")
        compiler.setParentClassLoader(loader)
        return compiler.createInstance(jvm.java.io.StringReader(body))
    except (Py4JError, TypeError):  # compiling is forbidden, or py4j finds no such class
        return None
