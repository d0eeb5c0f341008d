"""PBM, PGM, PPM and PFM: errors describe the fault of the file in the terms of its format."""

from __future__ import annotations

import pytest

from decoding import failure

HEADERS = {
    "P5\n2 2\n{}\n": ("maxval", ["abc", "0", "-5", "2.5", "65536", "9" * 30, "0x10", "²"]),
    "P2 2 2 {} ": ("maxval", ["70000"]),
    "P6\n2 2 # a comment\n{}\n": ("maxval", ["256a"]),
    "P3\n2\t2 {} ": ("maxval", ["truncated"]),
    "P5\n{} 2\n255\n": ("width", ["x", "0", "-2", "1.5", "9" * 12]),
    "P4\n{} 2\n": ("width", ["0", "two"]),
    "P1\n2 {}\n": ("height", ["0", "-1"]),
    "Pf\n2 {}\n-1\n": ("height", ["inf"]),
    "Pf\n2 2\n{}\n": ("scale", ["abc", "0", "nan", "inf"]),
}


@pytest.mark.parametrize(
    ("header", "field", "value"),
    [(header, field, value) for header, (field, values) in HEADERS.items() for value in values],
)
def test_an_invalid_number_in_a_header_is_quoted_with_the_expected_range(
    header: str, field: str, value: str
) -> None:
    error = failure(header.format(value).encode("latin-1") + bytes(64))
    assert error.status == "corrupt"
    quoted = value[:20].encode("latin-1")
    assert str(error).startswith(f"PPM: the {field} is {str(quoted)[1:]}")
    expected = "a finite number other than 0" if field == "scale" else "a whole number from 1 to"
    assert f"expected {expected}" in str(error)


@pytest.mark.parametrize(
    ("content", "sample", "highest"),
    [
        ("P1\n2 2\n1 2 1 0", "2", 1),
        ("P1\n2 2\n10x1", "x", 1),
        ("P2\n2 2\n255\n1 2 x 4", "x", 255),
        ("P2\n2 2\n255 # 999\n1 999 3 4", "999", 255),
        ("P2\n2 2\n9\n1 -3 3 4", "-3", 9),
        ("P3\n1 1\n255\n1 2 1234567890123", "1234567890123", 255),
    ],
)
def test_an_invalid_sample_in_text_form_is_quoted(content: str, sample: str, highest: int) -> None:
    error = failure(content.encode())
    assert error.status == "corrupt"
    message = f"PPM: a sample is '{sample}', expected a whole number from 0 to {highest}"
    assert str(error) == message


@pytest.mark.parametrize("content", ["P5\n2 2\n", "P5\n2", "P5\n2 2\n255\n12", "P2\n2 2\n9\n1 2 3"])
def test_a_file_that_ends_too_soon_is_truncated_and_not_reported_as_an_invalid_number(
    content: str,
) -> None:
    assert failure(content.encode()).status == "truncated"
