"""The result of `pomona extract` in words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pomona.cli.console import shown
from pomona.cli.parameters import in_options
from pomona.io.location import shell_word
from pomona.messages import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pomona.job.summary import Summary

__all__ = ["in_one_line", "in_words"]


def in_words(summary: Summary) -> str:
    """Return the lines that a run prints at its end."""
    changes = summary.changes
    kinds = {"new": changes.new, "changed": changes.changed, "failed before": changes.retried}
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    if not (changes.to_do or summary.has_changed_table):
        lines = [f"nothing to do: {count_of(summary.skipped, 'image')} already done"]
    elif summary.dry_run:
        lines = [f"would do {count_of(changes.to_do, 'image')}" + (f": {counts}" if counts else "")]
        lines[0] += f"; {summary.skipped:,} already done"
    elif not (changes.to_do or summary.ok + summary.failed):  # only rows changed
        skipped = f": {count_of(summary.skipped, 'image')} already done" if summary.skipped else ""
        lines = [f"no image to compute{skipped}"]
    else:
        lines = [
            f"{count_of(summary.ok + summary.failed, 'image')} in {summary.seconds:.1f} s "
            f"({_rate(summary.images_per_second)}): {summary.ok:,} ok, "
            f"{summary.failed:,} failed"
            + (f", {summary.skipped:,} already done" if summary.skipped else "")
        ]
        if changes.to_do > changes.new:
            lines.append(f"of these: {counts}")
    failures = {k: v for k, v in sorted(summary.by_status.items()) if k != "ok"}
    if failures:
        counts = ", ".join(f"{count:,} {status}" for status, count in failures.items())
        lines.append(f"failed: {counts}")
        lines += _named(summary)
    if summary.unlisted:
        lines.append(f"not listed: {'; '.join(summary.unlisted[:3])}")
    lines += map(in_options, summary.passed_over.in_words())
    lines += _moves_in_words(summary)
    lines += _labels_in_words(summary)
    if changes.pruned:
        did = "was" if changes.pruned == 1 else "were"
        would = "would be" if summary.dry_run else did
        lines.append(
            f"gone: {count_of(changes.pruned, 'row')} whose images no longer exist or are "
            f"excluded {would} deleted"
        )
    elif changes.gone:
        one = changes.gone == 1
        exist, are, their = ("exists", "is", "its row") if one else ("exist", "are", "their rows")
        lines.append(
            f"gone: {count_of(changes.gone, 'image')} no longer {exist} or {are} excluded (use "
            f"--prune to delete {their})"
        )
    lines.append(f"table: {summary.table} (encoder {summary.encoder[:12]})")
    if not summary.dry_run:
        lines.append(f"next: pomona inspect {shell_word(summary.table)}")
    return "\n".join(lines)


def in_one_line(summary: Summary) -> str:
    """Return what a later run of `--follow` did to the table."""
    changes, done = summary.changes, summary.ok + summary.failed
    found = []
    if done:
        failed = f", {summary.failed:,} failed" if summary.failed else ""
        again = f" ({changes.changed:,} changed)" if changes.changed else ""
        found.append(f"{count_of(done, 'image')}{again}: {summary.ok:,} ok{failed}")
    if changes.taken_over:
        found.append(f"{count_of(changes.taken_over, 'image')} with known bytes")
    if changes.pruned:
        found.append(f"{count_of(changes.pruned, 'row')} deleted")
    if changes.relabelled:
        found.append(f"{count_of(changes.relabelled, 'label')} changed")
    return f"{datetime.now():%H:%M:%S} {'; '.join(found)}"


def _named(summary: Summary) -> Iterator[str]:
    for file in summary.failed_files:
        yield shown(f"  {file.path}: {in_options(file.error or file.status)}")
    if more := summary.failed - len(summary.failed_files):
        yield f"  {more:,} more: pomona inspect {shell_word(summary.table)} --failed"


def _labels_in_words(summary: Summary) -> Iterator[str]:
    changes = summary.changes
    if changes.relabelled:
        yield f"labels {'would be ' if summary.dry_run else ''}changed: {changes.relabelled:,}"
    if changes.labels_kept:
        yield (
            f"labels kept: {count_of(changes.labels_kept, 'row')} with another label than the "
            "folder's name (use --label parent to change it)"
        )
    if 0 < changes.labelled < summary.files:
        have = "has" if changes.labelled == 1 else "have"
        yield f"labels: {changes.labelled:,} of {count_of(summary.files, 'image')} {have} a label"


def _moves_in_words(summary: Summary) -> Iterator[str]:
    changes = summary.changes
    if changes.taken_over:
        would = "would be " if summary.dry_run else ""
        yield f"{would}taken over: {changes.taken_over:,} (the table has vectors of the same bytes)"
    if changes.missing_kept:
        folder, rows = changes.absent_folders.most_common(1)[0]
        yield (
            f"kept: {count_of(changes.missing_kept, 'row')} whose folder does not exist or is "
            f"empty, {rows:,} of them below {folder} (if it is not just unmounted: --gone "
            f"{shell_word(folder)})"
        )


def _rate(images_per_second: float) -> str:
    if 0 < images_per_second < 10:
        text = f"{images_per_second:.2g}"
        return f"{text} {'image' if text == '1' else 'images'}/s"
    return f"{count_of(round(images_per_second), 'image')}/s"
