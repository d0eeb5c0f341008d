"""How the command line shows results to people: tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pomona.analysis.inspection import sorted_labels
from pomona.cli.parameters import in_options
from pomona.encoder.description import describe_preprocessing, pipeline
from pomona.io.location import shell_word
from pomona.messages import count_of

if TYPE_CHECKING:
    from pomona.analysis.check.check import Checks
    from pomona.analysis.inspection import Inspection, VectorCheck
    from pomona.analysis.neighbours.duplicates import Duplicates, Group
    from pomona.analysis.neighbours.search import SearchResult
    from pomona.analysis.projection import Projected
    from pomona.encoder.encoder import Encoder
    from pomona.encoder.networks import NetworkCard
    from pomona.table.failed_files import FailedFile

__all__ = [
    "show_columns",
    "show_duplicates",
    "show_encoder",
    "show_failures",
    "show_inspection",
    "show_matches",
    "show_model",
    "show_models",
    "show_projection",
]

_SHOWN_LABELS = 20
_SHOWN_MEMBERS = 4
_WIDE = 120  # columns: in a narrower terminal, the numbers leave no room for the path


_NUMBERS = {
    *("images", "parameters", "dimension", "precision", "recall", "probability"),
    *("similarity", "components", "variance", "of the last"),
}


def show_columns(names: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of plain text."""
    table = _table(*names)
    for row in rows:
        table.add_row(*map(Text, row))
    _console().print(table)


def show_inspection(name: str, found: Inspection) -> None:
    """Print an inspection: counts first, provenance last."""
    console = _console()
    failed = found.rows - found.statuses["ok"]
    console.print(
        Text(
            f"{name}: {count_of(found.rows, 'row')}, {found.statuses['ok']:,} ok, {failed:,} failed"
        )
    )
    named = len(found.labels) - (None in found.labels)
    facts = [
        ("model", _model(found.provenance)),
        ("dimension", f"{found.check.dimension:,}"),
        ("vectors", _checked(found.check)),
        ("classes", f"{named:,}" if named else "none: no image has a label"),
    ]
    if found.statuses["ok"]:
        facts.append(("quality", _quality(found)))
    if found.missing_files:
        facts.append(
            (
                "missing",
                f"the files of {count_of(found.missing_files, 'row')} no longer exist (pomona "
                "extract --prune --missing deletes such rows)",
            )
        )
    if found.missing_files is not None and found.files_elsewhere:
        facts.append(
            (
                "unchecked",
                f"the files of {count_of(found.files_elsewhere, 'row')} (they are on another file "
                "system, or cannot be seen)",
            )
        )
    for key, value in facts:
        console.print(Text(shown(f"{key + ':':<11}{value}")))
    if failed:
        console.print()
        _print_counts(console, "status", sorted(found.statuses.items()))
        console.print()
        show_failures(found.failed_files, failed, name)
    if named:
        console.print()
        _print_counts(console, "label", sorted_labels(found.labels))
    if found.first_rows:
        console.print()
        _print_rows(console, found.first_rows)
    console.print()
    _print_pairs(console, "provenance", found.provenance.items())


def show_failures(files: Iterable[FailedFile], failed: int, table: str) -> None:
    """Print failed files, two lines for each, and how to see the others."""
    console = _console()
    count = 0
    for count, file in enumerate(files, start=1):  # noqa: B007 - used after the loop
        console.print(Text(shown(f"{file.status}: {file.path}")))
        console.print(Text(shown(in_options(f"  {file.error}"))))
    if failed > count:
        console.print(
            Text(f"... {failed - count:,} more: pomona inspect {shell_word(table)} --failed")
        )


def _model(provenance: dict[str, str]) -> str:
    named = f"{provenance.get('model', '?')}, weights {provenance.get('weights', '?')}"
    precision = provenance.get("precision", "f32")
    return named if precision == "f32" else f"{named}, {precision}"


def _quality(found: Inspection) -> str:
    parts = [
        f"{name} {values[0.5]:.2f} ({values[0.05]:.2f} to {values[0.95]:.2f})"
        for name, values in found.quality.items()
    ]
    if found.unmeasured:
        rows = count_of(found.unmeasured, "row")
        parts.append(f"not measured in {rows} of an earlier version (extract --overwrite does)")
    return ", ".join(parts)


def _checked(check: VectorCheck) -> str:
    if check.passed and not check.vectors:
        return "none"
    if check.passed:
        return f"{check.vectors:,} of the right length, without NaN, not all zero"
    faults = {
        f"length other than {check.dimension:,}": check.wrong_length,
        "NaN or infinity": check.not_finite,
        "all zero": check.all_zero,
        "missing although the status is ok": check.missing,
    }
    problems = "; ".join(f"{count:,} {fault}" for fault, count in faults.items() if count)
    return f"FAULTY, of {check.vectors:,}: {problems}"


def show_encoder(name: str, encoder: Encoder) -> None:
    """Print the network and the preprocessing of an encoder."""
    _console().print(Text(f"{name}: {encoder.model}, {encoder.size / 1e6:.1f} MB"))
    _console().print(Text(f"pixels: {pipeline(encoder.preprocessing)}"))
    if encoder.text:
        _console().print(Text(f"texts: {encoder.text.describe()}"))
    _print_pairs(_console(), "encoder", encoder.provenance().items())


def show_models(cards: Iterable[NetworkCard]) -> None:
    """Print the known networks, one line each."""
    table = _table("model", "input", "dimension", "parameters", "weights' licence")
    for card in cards:
        size = card.preprocessing
        table.add_row(
            card.name,
            f"{size.height}x{size.width}",
            str(card.dimension),
            f"{card.parameters:,}",
            card.family.licence,
        )
    _console().print(table)


def show_model(model: str, card: NetworkCard | None, network: dict[str, Any]) -> None:
    """Print one network: layers, shapes, parameters, and its card."""
    console = _console()
    table = _table("layer", "class", "output shape", "parameters")
    for layer in network["layers"]:
        shape = " x ".join(map(str, layer["shape"]))
        table.add_row(Text(layer["name"]), layer["class"], shape, f"{layer['parameters']:,}")
    console.print(table)
    details = {
        "model": f"{card.name} ({card.architecture})" if card else model,
        "parameters": f"{network['parameters']:,}",
    }
    if card:
        details |= {
            "dimension": str(card.dimension),
            **describe_preprocessing(card.preprocessing),
            "licence": card.family.licence,
            "reference": card.family.reference,
        }
    _print_pairs(console, "about", details.items())


def show_duplicates(name: str, found: Duplicates, groups: int) -> None:
    """Print groups of duplicates, and what the threshold means in this table."""
    console = _console()
    for kind, made in (("exact", found.exact), ("near", found.near)):
        if kind == "near" and found.threshold is None:
            continue
        spare = sum(len(group.members) - 1 for group in made)
        differ = sum(len(group.labels) > 1 for group in made)
        groups_of, images = count_of(len(made), "group"), "image" if spare == 1 else "images"
        line = f"{name}: {kind} duplicates: {groups_of}, {spare:,} redundant {images}"
        in_groups = f"; labels differ in {count_of(differ, 'group')}" if differ else ""
        console.print(Text(line + in_groups))
        for number, group in enumerate(made[:groups], start=1):
            _print_group(console, number, group)
        if made[groups:]:
            console.print(
                f"... {count_of(len(made) - groups, 'more group')}: see --groups and --json"
            )
    if len(found.nearest):
        if found.by_chance > 0.1:
            chance = f"{found.by_chance:.0%}"
        elif found.by_chance:
            chance = f"one in {1 / found.by_chance:,.0f}"
        else:
            chance = f"none of {len(found.random):,}"
        console.print(
            f"threshold {found.threshold:g}: {found.share:.1%} of the images have another one this "
            f"near; of random pairs, {chance}"
        )
        if found.share > 0.5 and found.threshold != 1:
            console.print(
                "most images are near another one: a higher --threshold finds tighter groups; see "
                "--plot"
            )


def _print_group(console: Console, number: int, group: Group) -> None:
    said = f"{group.kind} {number}: {count_of(len(group.members), 'image')}"
    if group.kind == "near":
        said += f", similarity to the first at least {group.lowest:.3f}"
    if len(group.labels) > 1:
        said += ", labels differ"
    console.print(said)
    for member in group.members[:_SHOWN_MEMBERS]:
        label = f"  ({member.label})" if len(group.labels) > 1 else ""
        mark = "keep " if member is group.members[0] else f"{member.similarity:.3f}"
        console.print(Text(shown(f"  {mark}  {member.path}{label}")))
    if group.members[_SHOWN_MEMBERS:]:
        console.print(f"  ... {len(group.members) - _SHOWN_MEMBERS:,} more")


def show_checks(found: Checks) -> None:
    """Print the first rows of each list."""
    console = _console()
    console.print(Text(f"{found.table}: {count_of(found.rows, 'row')}"))
    for each in found:
        name = each.name.replace("_", " ")
        console.print(Text(f"\n{name}: {count_of(len(each), 'row')}. {each.question}"))
        if not len(each):
            continue
        table = _table(*each.rows.column_names)
        for row in each.rows.slice(0, _SHOWN_MEMBERS).to_pylist():
            values = (f"{v:.3f}" if isinstance(v, float) else v for v in row.values())
            table.add_row(*(Text(shown("" if v is None else str(v))) for v in values))
        console.print(table)


def show_matches(found: Iterable[SearchResult]) -> None:
    """Print what was found for each image or text of a search."""
    console = _console()
    for number, result in enumerate(found):
        query = result.query
        label = f" ({query.label})" if query.label else ""
        said = "" if query.is_row or query.path is None else ", not in the table"
        console.print(Text(chr(10) * bool(number) + shown(f"{query.given}{label}{said}")))
        table = _table("similarity", "label", "path")
        for match in result.matches:
            table.add_row(
                f"{match.similarity:.4f}", Text(shown(match.label)), Text(shown(match.path))
            )
        console.print(table if result.matches else "no other image in the table has a vector")


def show_projection(made: Projected) -> None:
    """Print what a projection keeps."""
    console = _console()
    shares = made.projection.explained
    console.print(
        Text(
            f"{made.table}: {count_of(made.rows, 'row')}, "
            f"{count_of(made.projection.rows, 'vector')} of {count_of(len(shares), 'number')}, "
            f"with {shares.sum():.1%} of the variance of all {len(made.projection.mean):,}"
        )
    )
    table = _table("components", "variance", "of the last")
    known = {1, 2, 3, 5, 10, 20, 50, 100, 200, 500, len(shares)}
    for count in sorted(known & set(range(1, len(shares) + 1))):
        table.add_row(f"{count:,}", f"{shares[:count].sum():.1%}", f"{shares[count - 1]:.2%}")
    console.print(table)


def shown(text: str | None) -> str:
    """Return text without control characters: a file name may contain terminal commands."""
    return "".join(c if c.isprintable() else "?" for c in text or "")


def _console() -> Console:
    # A pipe has no width, so that no line is folded there.
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 100_000)


def _print_counts(console: Console, what: str, counts: list[tuple[str | None, int]]) -> None:
    table = _table(what, "images")
    for name, count in counts[:_SHOWN_LABELS]:
        table.add_row(Text(shown("(none)" if name is None else name)), f"{count:,}")
    if len(counts) > _SHOWN_LABELS:
        table.add_row(f"... {len(counts) - _SHOWN_LABELS:,} more", "")
    console.print(table)


def _print_pairs(console: Console, title: str, pairs: Iterable[tuple[str, str]]) -> None:
    table = _table(title, "")
    for key, value in pairs:
        table.add_row(Text(shown(key)), Text(shown(value)))
    console.print(table)


def _print_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    wide = console.width >= _WIDE
    table = _table("status", "label", "size", *(["features"] if wide else []), "path")
    for row in rows:
        vector = row["features"]
        size = f"{row['width']}x{row['height']}" if row["width"] else ""
        numbers = ", ".join(f"{value:.3f}" for value in vector) + ", ..." if vector else "-"
        cells = [row["status"], shown(row["label"]), f"{size} {row['format'] or ''}".strip()]
        cells += [numbers] if wide else []
        table.add_row(*map(Text, [*cells, shown(row["path"])]))
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=justify, overflow="fold")
    return table
