"""Lines of CSV that the import hands to PostgreSQL without parsing their cells."""

import re
from itertools import product

import pytest
from django.db import connection

from rooms.columns import COLUMNS
from rooms.imports.reader import below, parse_cell, plain_line

LINE = ["f853578c-fc0f-4e65-81b8-566c5dffa35a", "215", "39", "51.75436293", "-0.09998975"]
NUMBERS = [
    "0",
    "00",
    "007",
    "1",
    "9",
    "10",
    "89",
    "90",
    "099",
    "179",
    "180",
    "99999",
    "100000",
    "999999",
    "1000000",
]
TEXTS = [
    "",
    *(f"{sign}{number}" for sign, number in product(["", "-", "+", " "], NUMBERS)),
    *(
        f"{sign}{number}.{decimals}"
        for sign, number in product(["", "-"], NUMBERS)
        for decimals in ["0", "12345678"]
    ),
    *["51.", ".5", "1e3", "1e999", "NaN", "Infinity", "1_0", "٣٩", "0x10", "'1'", '"1"', "1;", "0.123456789"],
    *[
        LINE[0].upper(),
        LINE[0].replace("-", ""),
        f"{{{LINE[0]}}}",
        LINE[0] + "\n",
        "true",
        "TRUE",
        "\\N",
        "null",
    ],
]


def is_plain(column, text):
    cells = [text if name == column else cell for name, cell in zip(COLUMNS, LINE, strict=True)]
    return plain_line(list(COLUMNS)).fullmatch(",".join(cells)) is not None


@pytest.mark.django_db
@pytest.mark.parametrize("column", COLUMNS)
def test_a_plain_cell_is_valid_and_read_alike_by_postgresql(column):
    plain = [text for text in TEXTS if is_plain(column, text)]
    assert plain
    with connection.cursor() as cursor:
        for text in plain:
            cursor.execute(f"SELECT nullif(%s, '')::{COLUMNS[column].type.sql_type}", [text])
            (stored,) = cursor.fetchone()
            value = parse_cell(column, text)
            assert stored == value or str(stored) == value, text


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 90, 180, 205, 1000, 1090])
def test_the_digits_below_a_limit_are_those_of_smaller_numbers(limit):
    matching = [number for number in range(12_000) if re.fullmatch(below(limit), str(number))]
    assert matching == list(range(limit))


def test_lines_of_an_export_are_plain():
    assert all(is_plain(name, cell) for name, cell in zip(COLUMNS, LINE, strict=True))
    assert is_plain("size", "")
    assert not is_plain("price", "")


def test_the_pattern_follows_the_order_of_the_header():
    assert plain_line(list(reversed(COLUMNS))).fullmatch(",".join(reversed(LINE)))
    assert not plain_line(list(reversed(COLUMNS))).fullmatch(",".join(LINE))
