"""What made the rows of a table: one encoder and one way of decoding, for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pomona.errors import TableError
from pomona.table.differences import differences

__all__ = ["check_same_maker", "one_provenance"]


def one_provenance(
    table: object, parts: Iterable[tuple[str, Mapping[str, str]]]
) -> dict[str, str] | None:
    """Return what made the rows of part files, which must agree on it; None without part files.

    Args:
        table: its name, for errors.
        parts: names of part files, each with its provenance.

    Raises:
        TableError: a part says nothing of its maker, or two say different things.
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
                f"{differences(first, found)}; give each encoder a table of its own"
            )
    return None if first is None else dict(first)


def check_same_maker(table: object, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Make sure that rows made in this way may join a table.

    Args:
        table: its name, for errors.
        found: the table's provenance.
        wanted: that of the rows to come.

    Raises:
        TableError: another encoder, or another way of decoding, made the table.
    """
    if found["fingerprint"] != wanted["fingerprint"]:
        raise TableError(
            f"{table} was made by another encoder: it has {_named(found)}, this run has "
            f"{_named(wanted)}, and they differ in {differences(found, wanted)}; give another "
            "TABLE, or `overwrite` to replace it"
        )
    (_, before), (_, now) = _maker(found), _maker(wanted)
    if before != now:
        raise TableError(
            f"{table} was made with `decode` {before}, this run has `decode` {now}, and their "
            "features differ slightly; give the same, another TABLE, or `overwrite` to replace it"
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
    """What rows of one table must share: the encoder, and the way of decoding."""
    return provenance["fingerprint"], provenance.get("decode", "exact")
