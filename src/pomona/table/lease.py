"""A lease on a table, for storages without locks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType

from pomona.errors import PomonaError, RunError, TableError
from pomona.messages import one_line
from pomona.table.feature_table import RUNNING
from pomona.table.store import Store

__all__ = ["Lease"]

_log = logging.getLogger(__name__)

_EVERY_S, _HOLDS_S = 10.0, 60.0


class Lease:
    """Holds a table by a mark file that is renewed every 10 seconds and expires after 60.

    Each writer writes its own mark, and then lists the marks of others. A listing has all files
    that were written before it. So if two writers start together, both may be refused, but never
    do both continue. Only the storage's clock is used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = f"{RUNNING}{uuid.uuid4().hex[:12]}"
        self._made_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        """Write the mark file.

        Raises:
            TableError: another run holds the table, or it is not writable.
        """
        try:
            self._make()
            self._refuse_others()
        except OSError as error:
            self._remove()
            reason = error.strerror or error
            raise TableError(f"cannot write TABLE {self._store}: {reason}") from error
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Delete the mark file."""
        self._ended.set()
        self._thread.join()
        self._remove()

    def check(self) -> None:
        """Check before files are moved that the lease has not expired.

        Raises:
            RunError: the mark was deleted, or was not renewed in time: another run may be writing.
        """
        age_s = time.monotonic() - self._made_at
        if age_s > _HOLDS_S or self._name not in self._store.entries():
            raise RunError(
                f"another run may be writing {self._store}: this run last renewed its lease "
                f"{age_s:.0f} s ago, and it expires after {_HOLDS_S:g} s; run it again"
            )

    def _refuse_others(self) -> None:
        marks = {name: e for name, e in self._store.entries().items() if name.startswith(RUNNING)}
        now = marks[self._name].modified  # the storage's clock
        for name, entry in marks.items():
            if name == self._name:
                continue
            if now - entry.modified < _HOLDS_S:
                raise TableError(
                    f"another run is writing {self._store}: wait until it has ended, or give "
                    f"another TABLE (a run that was killed holds it for {_HOLDS_S:g} s)"
                )
            self._store.delete([name])

    def _make(self) -> None:
        begun = time.monotonic()
        self._store.write(self._name, b"")
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
                _log.warning("cannot renew the lease on %s: %s", self._store, one_line(error, 200))

    def _remove(self) -> None:
        """Delete the mark. If the storage fails, it expires."""
        with suppress(OSError, PomonaError):
            self._store.delete([self._name])
