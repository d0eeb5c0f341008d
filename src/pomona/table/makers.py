"""Checks that one encoder and one way of decoding made all rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pomona.errors import TableError
from pomona.table.differences import differences

__all__ = ["check_same_maker", "one_provenance"]


def one_provenance(
    table: object, parts: Iterable[tuple[str, Mapping[str, str]]]
) -> dict[str, str] | None:
    """Return the common provenance of part files; None without part files.

    Args:
        table: name of the table, for errors.
        parts: names of part files, each with its provenance.

    Raises:
        TableError: a part has no provenance, or two parts have different ones.
    """
    first: Mapping[str, str] | None = None
    for name, found in parts:
        if "fingerprint" not in found:
            raise TableError(
                f"{table} exists and is not a feature table: {name} does not say which encoder "
                "made it"
            )
        first = first or found
        if _maker(found) != _maker(first):
            raise TableError(
                f"{table} mixes rows of two encoders, or of two ways of decoding: "
                f"{_named(first)} and {_named(found)} in {name}, which differ in "
                f"{differences(first, found)}; use one table for each encoder"
            )
    return None if first is None else dict(first)


def check_same_maker(table: object, found: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Check that rows may be added to a table.

    Args:
        table: name of the table, for errors.
        found: provenance of the table.
        new: provenance of the new rows.

    Raises:
        TableError: another encoder, or another way of decoding, made the table.
    """
    if found["fingerprint"] != new["fingerprint"]:
        raise TableError(
            f"{table} was made by another encoder: it has {_named(found)}, this run has "
            f"{_named(new)}, and they differ in {differences(found, new)}; give another "
            "TABLE, or `overwrite` to replace it"
        )
    (_, before), (_, now) = _maker(found), _maker(new)
    if before != now:
        raise TableError(
            f"{table} was made with `decode` {before}, this run has `decode` {now}, and their "
            "features differ slightly; use the same, another TABLE, or `overwrite` to replace it"
        )


def _named(provenance: Mapping[str, str]) -> str:
    details = [provenance["fingerprint"][:12]]
    if (precision := provenance.get("precision", "f32")) != "f32":
        details.append(precision)
    if provenance.get("decode") == "fast":
        details.append("`decode` fast")
    return (
        f"{provenance.get('model', '?')} with weights {provenance.get('weights', '?')} "
        f"({', '.join(details)})"
    )


def _maker(provenance: Mapping[str, str]) -> tuple[str, str]:
    """Return what the rows of one table share: the encoder, and the way of decoding."""
    return provenance["fingerprint"], provenance.get("decode", "exact")
