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
    """An object with the methods of a class body; None where the JVM lets nobody compile.

    Args:
        spark: a classic session.
        body: Java, as Janino knows it: without generics, with full names.
        interfaces: what the class implements, beside `java.util.function.BiFunction`, whose
            `apply(Object, Object)` is called from Python.
    """
    from py4j.protocol import Py4JError

    context: Any = spark.sparkContext
    jvm = context._jvm
    try:
        # The loader that has Hadoop's and Spark's classes.
        loader = spark._jsparkSession.getClass().getClassLoader()
        names = ["java.util.function.BiFunction", *interfaces]
        classes = context._gateway.new_array(jvm.java.lang.Class, len(names))
        for number, name in enumerate(names):
            classes[number] = loader.loadClass(name)
        compiler = jvm.org.codehaus.janino.ClassBodyEvaluator()
        compiler.setImplementedInterfaces(classes)
        # Py4J knows a class by its name; one of the same name from before would be another.
        compiler.setClassName(f"pomona.Compiled_{uuid.uuid4().hex}")
        compiler.setParentClassLoader(loader)
        return compiler.createInstance(jvm.java.io.StringReader(body))
    except (Py4JError, TypeError):  # not allowed to, or py4j knows no such class
        return None
