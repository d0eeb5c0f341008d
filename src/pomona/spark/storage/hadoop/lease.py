"""A lease on a folder of a Hadoop file system, which has no locks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from types import TracebackType
from typing import TYPE_CHECKING

from pomona.errors import RunError, TableError
from pomona.spark.storage.hadoop.filesystem import hadoop_path, hadoop_system
from pomona.table.feature_table import RUNNING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Lease"]

_log = logging.getLogger(__name__)

_EVERY_S, _HOLDS_S = 10.0, 60.0


class Lease:
    """Holds a table by a mark file that is renewed every 10 seconds and expires after 60.

    If two writers start together, both may be refused, but never do both continue.
    """

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table
        self._path = hadoop_path(spark, f"{table}/{RUNNING}{uuid.uuid4().hex[:12]}")
        self._system = hadoop_system(spark, self._path)
        self._made_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        """Write the mark file, and create its folder if necessary.

        Raises:
            TableError: another run holds the table.
        """
        folder = self._path.getParent()
        self._made_folder = not self._system.exists(folder)
        self._make()
        try:
            self._refuse_others()
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Delete the mark file, and the folder if it was created here and is empty."""
        self._ended.set()
        self._thread.join()
        self._remove()

    def check(self) -> None:
        """Check before files are moved that the lease has not expired.

        Raises:
            RunError: the mark was deleted, or was not renewed in time: another run may be writing.
        """
        age_s = time.monotonic() - self._made_at
        if age_s > _HOLDS_S or not self._system.exists(self._path):
            raise RunError(
                f"another run may be writing {self._table}: this run last renewed its lease "
                f"{age_s:.0f} s ago, and it expires after {_HOLDS_S:g} s; run it again"
            )

    def _refuse_others(self) -> None:
        now = self._system.getFileStatus(self._path).getModificationTime()  # the storage's clock
        for status in self._system.listStatus(self._path.getParent()):
            other = status.getPath()
            if not other.getName().startswith(RUNNING) or other.getName() == self._path.getName():
                continue
            if now - status.getModificationTime() < _HOLDS_S * 1000:
                raise TableError(
                    f"another run is writing {self._table}: wait until it has ended, or give "
                    f"another TABLE (a run that was killed holds it for {_HOLDS_S:g} s)"
                )
            self._system.delete(other, False)

    def _make(self) -> None:
        begun = time.monotonic()
        self._system.create(self._path, True).close()
        self._made_at = begun

    def _renew(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                self.check()  # do not renew an expired lease: another run may have begun
                self._make()
            except RunError as error:
                _log.warning("%s", error)
                return
            except Exception as error:  # noqa: BLE001 - the storage may recover from any error
                _log.warning("cannot renew the lease on %s: %s", self._table, str(error)[:200])

    def _remove(self) -> None:
        self._system.delete(self._path, False)
        folder = self._path.getParent()
        if self._made_folder and not self._system.listStatus(folder):
            self._system.delete(folder, False)
