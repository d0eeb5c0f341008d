"""A contact sheet: pictures in rows, each with two lines of text below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pomona.analysis.figures.thumbnails import read_thumbnails
from pomona.errors import UsageError
from pomona.io.location import written_whole
from pomona.table.feature_table import check_output

__all__ = ["Cell", "check_picture", "draw_sheet", "save_picture"]

_SIDE, _GAP, _LINE = 112, 12, 15
_PAPER, _INK, _FAINT, _EMPTY, _MARK = "#ffffff", "#1a1a1a", "#6b6b6b", "#ececec", "#0b6bcb"
_LONGEST = 65_000  # pixels; a PNG may be larger, but viewers fail
_LONGEST_WEBP = 16_383


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture of the sheet.

    Attributes:
        path: path or URI of the image; None to draw the first line in its place.
        above: first line of its text.
        below: second line of its text.
        marked: whether the picture is framed.
    """

    path: str | None
    above: str
    below: str
    marked: bool = False


def check_picture(file: Path) -> None:
    """Check before the work that Pillow can write a picture of that name.

    Raises:
        UsageError: the extension is unknown, or the file cannot be written.
    """
    kinds = Image.registered_extensions()
    if file.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"} & kinds.keys():
        raise UsageError(f"{file}: expected the name of a .png, .jpg or .webp file")
    check_output(file)


def draw_sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Draw rows of pictures on white; a missing picture is grey.

    Raises:
        UsageError: there are more rows or columns than a picture can have.
    """
    width = _GAP + max(map(len, rows)) * (_SIDE + _GAP)
    height = _GAP + len(rows) * (_SIDE + 2 * _LINE + _GAP)
    if max(width, height) > _LONGEST:
        raise UsageError(
            f"a sheet of {width} x {height} pixels is too large: ask for fewer images at once"
        )
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    found = read_thumbnails((cell.path for row in rows for cell in row if cell.path), _SIDE)
    for y, row in enumerate(rows):
        top = _GAP + y * (_SIDE + 2 * _LINE + _GAP)
        for x, cell in enumerate(row):
            left = _GAP + x * (_SIDE + _GAP)
            if cell.path is None:
                _draw_words(draw, (left, top), cell.above, font)
            else:
                _draw_cell(sheet, draw, (left, top), cell, next(found), font)
    return sheet


def save_picture(image: Image.Image, file: Path) -> None:
    """Write a picture atomically.

    Raises:
        UsageError: the file cannot be written, or the picture is too large for the format.
    """
    if file.suffix.lower() == ".webp" and max(image.size) > _LONGEST_WEBP:
        raise UsageError(
            f"{file}: {image.width} x {image.height} pixels are more than a .webp can have "
            f"({_LONGEST_WEBP}): use a .png, or ask for fewer images at once"
        )
    with written_whole(file, UsageError) as draft:
        image.save(draft, optimize=True)


def _draw_cell(  # noqa: PLR0913, PLR0917 - the picture and the drawing tools
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    cell: Cell,
    picture: Image.Image | None,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top = at
    if picture is None:
        draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), fill=_EMPTY)
        draw.text((left + _SIDE // 2, top + _SIDE // 2), "not found", _FAINT, font, anchor="mm")
    else:
        # Centred; small pictures are not enlarged.
        x, y = (_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2
        sheet.paste(picture, (left + x, top + y))
    if cell.marked:
        frame = (left - 4, top - 4, left + _SIDE + 3, top + _SIDE + 3)
        draw.rectangle(frame, outline=_MARK, width=3)
    draw.text((left, top + _SIDE + 5), _shortened(cell.above, font), _INK, font)
    draw.text((left, top + _SIDE + 5 + _LINE), _shortened(cell.below, font), _FAINT, font)


def _draw_words(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw a text in the frame of a picture."""
    left, top = at
    lines = textwrap.wrap(text, width=16, max_lines=6, placeholder="...")
    middle = (left + _SIDE // 2, top + _SIDE // 2)
    draw.multiline_text(middle, "\n".join(lines), _INK, font, anchor="mm", align="center")
    draw.rectangle((left - 4, top - 4, left + _SIDE + 3, top + _SIDE + 3), outline=_MARK, width=3)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return the text cut to the width of a cell; control characters become dots."""
    text = "".join(c if c.isprintable() else "." for c in text)
    if font.getlength(text) <= _SIDE:
        return text
    while text and font.getlength(text + "...") > _SIDE:
        text = text[:-1]
    return text + "..."
