"""Look at images in the browser: a folder or a feature table as a map of pictures."""

from __future__ import annotations

import os
import threading
import webbrowser
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pomona.analysis.look.map_cache import open_places
from pomona.analysis.look.nearest import Nearest
from pomona.analysis.look.rows import read_rows
from pomona.analysis.look.server import Shown, start_server
from pomona.analysis.report.map_layout import check_map, is_by_pca
from pomona.analysis.table_encoder import encoder_of_table, from_cache
from pomona.analysis.vectors import open_vectors
from pomona.encoder.encoder import Encoder, canonical_digest
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import RunError, TableError, UsageError
from pomona.extraction import extract
from pomona.io.location import cache_folder, is_remote, local_path
from pomona.notebook import html_card
from pomona.progress import Progress, no_progress
from pomona.spark.encoder_transport import open_encoder
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Look", "look"]


class Look:
    """An open page. It ends with the process, or when you close it.

    Attributes:
        url: of the page. It works on this machine only, and contains a secret.
        table: the table that the page shows.
    """

    def __init__(self, url: str, table: FeatureTable, stop: Callable[[], None]) -> None:
        """`look` makes it."""
        self.url = url
        self.table = table
        self._stop = stop
        self._closed = threading.Event()

    def wait(self) -> None:
        """Wait until another thread closes the page, or Ctrl-C."""
        self._closed.wait()

    def close(self) -> None:
        """Stop the server of the page."""
        if not self._closed.is_set():
            self._stop()
            self._closed.set()

    def __enter__(self) -> Look:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pomona.Look of {self.table} at {self.url}>"

    def _repr_html_(self) -> str:
        link = f"<a href='{self.url}' target='_blank' rel='noopener'>Open the page</a>"
        return html_card(str(self.table), link)


def look(  # noqa: PLR0913 - settings, each with a sensible default
    source: FeatureTable | str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    *,
    encoder: Encoder | str | os.PathLike[str] | Callable[[], Encoder] | None = None,
    label: str | None = None,
    map: Literal["tsne", "pca"] = "tsne",  # noqa: A002 - the name of the option
    port: int = 0,
    browser: bool = True,
    progress: Progress = no_progress,
) -> Look:
    """Open a page in the browser that shows images as a map, similar ones near each other.

        page = pomona.look("features/")
        page.close()

    If `source` is not a feature table, `extract` makes or continues one first. The map is kept in
    Pomona's cache folder until the table changes.

    Args:
        source: a feature table, its path or URI, or a source of images as for `extract`.
        table: where to put the feature table of a source of images. By default, it is in Pomona's
            cache folder.
        encoder: of a source of images: see `extract`. Of a table: its encoder, for searching with
            texts; by default it is found in the cache.
        label: the label rule of a source of images: see `extract`.
        map: the method of the map: `tsne` shows groups, `pca` is quick.
        port: of the server on this machine; 0 for any free port.
        browser: whether to open the page in the browser.
        progress: called with the progress of the extraction and of the map.

    Raises:
        SourceError: there are no images.
        TableError: the table cannot be read or written, or has no vectors.
        EncoderError: the encoder cannot be built or read, or another one made the table.
        UsageError: an argument does not fit, or scikit-learn is not installed.
        RunError: the extraction could not continue, or the port is in use.
    """
    check_map(map)
    opened = _as_table(source)
    load = cache(lambda: open_encoder(DEFAULT_MODEL if encoder is None else encoder, None)[0])
    known = None
    if opened is None:
        place = os.fspath(source)  # type: ignore[arg-type]
        where = _table_for(place) if table is None else table
        extract(place, where, encoder=load, label=label, progress=progress)
        known = load()
        opened = FeatureTable.at(where)
    elif table is not None or label is not None:
        given = "table" if table is not None else "label"
        raise UsageError(f"{opened} is a feature table: leave `{given}` out")
    vectors = open_vectors(opened)
    if not vectors.rows:
        raise TableError(f"{opened} has no row with a vector: see 'pomona inspect'")
    if known is None and encoder is not None:
        known = encoder_of_table(vectors.provenance, encoder=load())
    elif known is None:
        known = from_cache(vectors.provenance)
    placed = open_places(vectors, map, progress)
    rows = read_rows(opened)
    if rows.placed != vectors.rows:
        raise RunError(
            f"{opened} changed while it was read: wait until the run that writes it has ended"
        )
    can_read = known is not None and known.text is not None
    about = {
        "name": str(source),
        "network": vectors.provenance.get("model", ""),
        "map": "pca" if is_by_pca(map, rows.placed) else map,
        "text": can_read,
    }
    shown = Shown(about, rows, placed, Nearest(placed, known if can_read else None))
    url, stop = start_server(shown, port)
    page = Look(url, opened, stop)
    if browser:
        webbrowser.open(url)
    return page


def _as_table(source: FeatureTable | str | os.PathLike[str]) -> FeatureTable | None:
    """Return a feature table; None for a source of images.

    Raises:
        TableError: it is a folder of Parquet files and not a feature table.
    """
    if isinstance(source, FeatureTable):
        return source
    place = os.fspath(source)
    if not is_remote(place) and not Path(local_path(place)).expanduser().is_dir():
        return None
    table = FeatureTable.at(place)
    if not table.exists():
        return None
    table.provenance()
    return table


def _table_for(source: str) -> Path:
    """Return where the table of a source is if the user names no place for it.

    Raises:
        UsageError: this user has no cache folder.
    """
    place = source if is_remote(source) else str(Path(local_path(source)).expanduser().absolute())
    try:
        folder = cache_folder("tables")
    except OSError as error:
        raise UsageError(f"{error}, or give `table`") from error
    name = "".join(c if c.isalnum() else "-" for c in place.rstrip("/").rpartition("/")[2])
    return folder / f"{name[:40]}-{canonical_digest(place)[:12]}"
