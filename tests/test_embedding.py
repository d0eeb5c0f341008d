"""`pomona.embed`: vectors of images in memory and in files equal those of a table."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, ImageError, UsageError


@pytest.fixture
def table(pictures: Path, encoder: Encoder, tmp_path: Path) -> list[dict[str, object]]:
    pomona.extract(
        pictures, tmp_path / "table", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    return tables.read(tmp_path / "table").to_pylist()


def test_paths_and_bytes_give_bit_identical_vectors_to_extract(
    table: list[dict[str, object]], encoder: Encoder
) -> None:
    good = [row for row in table if row["status"] == "ok"]
    paths = [str(row["path"]).removeprefix("file:") for row in good]
    expected = np.array([row["features"] for row in good], np.float32)
    assert (pomona.embed(paths, encoder) == expected).all()
    assert (pomona.embed(map(Path, paths), encoder) == expected).all()
    assert (pomona.embed([Path(path).read_bytes() for path in paths], encoder) == expected).all()
    with_files = [Image.open(path) for path in paths]
    assert (pomona.embed(with_files, encoder) == expected).all()
    loaded = [Image.open(path) for path in paths]
    for image in loaded:
        image.load()
    assert (pomona.embed(loaded, encoder) == expected).all()
    for image in with_files + loaded:
        image.close()


def test_an_encoder_embeds_images_itself(table: list[dict[str, object]], encoder: Encoder) -> None:
    paths = [str(row["path"]).removeprefix("file:") for row in table]
    by_function = pomona.embed(paths, encoder, errors="nan", decode=pomona.DecodeOptions(fast=True))
    by_method = encoder.embed(paths, errors="nan", decode=pomona.DecodeOptions(fast=True))
    assert by_method.tobytes() == by_function.tobytes()
    with pytest.raises(ImageError):
        encoder.embed(paths)


def test_an_image_without_a_vector_in_the_table_is_nan(
    table: list[dict[str, object]], encoder: Encoder
) -> None:
    paths = [str(row["path"]).removeprefix("file:") for row in table]
    vectors = pomona.embed(paths, encoder, errors="nan")
    assert vectors.shape == (len(table), encoder.dimension)
    for vector, row in zip(vectors, table, strict=True):
        if row["status"] == "ok":
            assert (vector == np.array(row["features"], np.float32)).all()
        else:
            assert np.isnan(vector).all()


def test_arrays_give_the_vectors_of_a_file_with_the_same_pixels(encoder: Encoder) -> None:
    picture = drawn.picture(50, 40, 3)
    pixels, grey = np.asarray(picture), np.asarray(picture.convert("L"))
    (expected,) = pomona.embed(drawn.encode(picture, "PNG"), encoder)
    assert (pomona.embed(pixels, encoder) == expected).all()
    assert (pomona.embed(picture, encoder) == expected).all()
    assert (pomona.embed(np.stack([pixels, pixels]), encoder) == expected).all()
    (expected_grey,) = pomona.embed(drawn.encode(picture.convert("L"), "PNG"), encoder)
    assert (pomona.embed([pixels, grey], encoder) == [expected, expected_grey]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_a_pil_image_of_any_mode_gives_the_vector_of_its_file(mode: str, encoder: Encoder) -> None:
    picture = drawn.picture(30, 30, 5)
    image = picture.convert(mode) if mode != "I;16" else picture.convert("L").convert("I;16")
    content = io.BytesIO()
    image.save(content, "TIFF" if mode == "CMYK" else "PNG")
    assert (pomona.embed(image, encoder) == pomona.embed(content.getvalue(), encoder)).all()


def test_exif_rotates_a_pil_image_like_a_file(encoder: Encoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    drawn.picture(40, 30, 7).save(content, "PNG", exif=exif)
    image = Image.open(content)
    image.load()
    assert (pomona.embed(image, encoder) == pomona.embed(content.getvalue(), encoder)).all()


def test_one_image_gives_one_row_and_no_images_give_no_rows(encoder: Encoder) -> None:
    assert pomona.embed(drawn.picture(), encoder).shape == (1, encoder.dimension)
    assert pomona.embed([], encoder).shape == (0, encoder.dimension)


def test_an_image_that_fails_is_identified_by_its_position(
    encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=r"^images\[1\]: unsupported: ") as error:
        pomona.embed([drawn.picture(), b"<html>404</html>"], encoder)
    assert error.value.status == "unsupported"
    missing = tmp_path / "missing.jpg"
    with pytest.raises(ImageError, match=r"images\[0\] \('.*missing.jpg'\): unreadable: .*No such"):
        pomona.embed(missing, encoder)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (7, "int"),
        (None, "NoneType"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
    ],
)
def test_the_error_for_an_argument_that_is_not_an_image_names_its_type(
    item: object, kind: str, encoder: Encoder
) -> None:
    with pytest.raises(UsageError, match=rf"images\[0\] is {kind}: give a path, the bytes"):
        pomona.embed([item], encoder)


def test_the_encoder_may_be_a_file(encoder: Encoder, encoder_file: Path) -> None:
    image = drawn.picture()
    assert (pomona.embed(image, encoder_file) == pomona.embed(image, encoder)).all()
    with pytest.raises(EncoderError, match="no.encoder"):
        pomona.embed(image, "no.encoder")
    with pytest.raises(EncoderError, match="resnet50"):
        pomona.embed(image, "resnet5O")


def test_an_unknown_error_mode_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="errors is 'skip': give 'raise' or 'nan'"):
        pomona.embed([], encoder, errors="skip")  # type: ignore[arg-type]
