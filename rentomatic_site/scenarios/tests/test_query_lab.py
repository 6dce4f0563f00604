"""query_lab: what PostgreSQL does with an address on scenarios. capture_scenario: real rooms as Python."""

import re
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from rentomatic_site.scenarios import isolation
from rentomatic_site.scenarios.tests.workshop import Workshop, workshop_in
from rentomatic_site.testing.plugin import Manage

SKEWED = """
    from rooms.seeding import between, many_rooms, mostly

    def run():
        many_rooms(3000, price=mostly(50, 0.9, otherwise=between(100, 500)))
"""
FEW = (
    "from rooms.seeding import room\ndef run():\n    for price in range(40, 50):\n        room(price=price)\n"
)


def cells(output: str, name: str) -> list[str]:
    """The row of the table that begins with the name."""
    (line,) = [line for line in output.splitlines() if line.startswith(name)]
    return re.split(r"  +", line.strip())


@pytest.fixture(scope="module")
def loaded(
    tmp_path_factory: pytest.TempPathFactory,
    manage: Manage,
    site_env: dict[str, str],
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("lab") / "scenarios"
    with django_db_blocker.unblock(), workshop_in(folder, manage, site_env) as workshop:
        workshop.write("t_skewed", SKEWED)
        workshop.write("t_few", FEW)
        assert workshop.load("t_skewed").returncode == workshop.load("t_few").returncode == 0
        yield workshop


@pytest.fixture
def lab(loaded: Workshop, django_db_blocker: DjangoDbBlocker) -> Iterator[Workshop]:
    """Two loaded scenarios, which the tests only read; files beside theirs are removed."""
    with django_db_blocker.unblock():
        yield loaded
    (loaded.folder / "t_bug.py").unlink(missing_ok=True)


def test_the_table_shows_plan_and_index_on_each_scenario(lab: Workshop) -> None:
    done = lab.call("query_lab", "filter_price__gt=490&order=price", "--on", "t_skewed,t_few")
    assert done.returncode == 0, done.stderr
    name, rooms, milliseconds, plan, index, planned, true, *_ = cells(done.stdout, "t_skewed")
    assert (name, rooms, index) == ("t_skewed", "3,000", "room_price")
    assert plan.endswith("Scan")
    assert int(true) == lab.sql("t_skewed", "SELECT count(*) FROM room WHERE price > 490")[0][0]
    assert 0 <= float(milliseconds) < 1000
    assert int(planned) > 0
    assert cells(done.stdout, "t_few")[3] == "Sort over Seq Scan"


def test_the_planner_sees_that_a_skewed_price_is_no_narrow_filter(lab: Workshop) -> None:
    frequent = cells(lab.call("query_lab", "price__eq=50", "--on", "t_skewed").stdout, "t_skewed")
    rare = cells(lab.call("query_lab", "price__eq=123", "--on", "t_skewed").stdout, "t_skewed")
    assert frequent[4] == "room_pkey"  # it walks the table in order, and finds a page of rooms at once
    assert rare[4] == "room_price"


def test_an_index_is_tried_in_a_copy_and_leaves_nothing(lab: Workshop) -> None:
    before = lab.databases()
    done = lab.call(
        "query_lab",
        "order=code",
        "--on",
        "t_skewed",
        "--index",
        "code, id",
    )
    assert cells(done.stdout, "t_skewed, before")[3] == "Incremental Sort over Index Scan"
    assert cells(done.stdout, "t_skewed, after")[3:5] == ["Index Scan", "query_lab_index"]
    assert lab.databases() == before
    assert lab.sql("t_skewed", "SELECT 1 FROM pg_indexes WHERE indexname = 'query_lab_index'") == []


def test_sql_shows_the_statement_with_its_values(lab: Workshop) -> None:
    done = lab.call("query_lab", "filter_price__lt=66", "--on", "t_few", "--sql")
    assert re.search(r"SELECT .* WHERE \(room\.price < 66.* LIMIT 101", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prize__lt=66"], 'prize__lt: unknown parameter. Next: ./manage.py query_lab "filter_price__lt=66"'),
        (["", "--on", "t_absent"], "t_absent is not loaded. Next: ./manage.py load_scenario t_absent"),
        (["", "--on", "t_few", "--index", "prize"], 'column "prize" does not exist'),
        (["", "--on", "t_few", "--index", "price); DROP TABLE room; --"], "--index takes columns"),
    ],
)
def test_what_cannot_be_measured_is_told_with_the_next_step(
    lab: Workshop, arguments: list[str], message: str
) -> None:
    done = lab.call("query_lab", *arguments)
    assert done.returncode == 1
    assert message in done.stderr


# --- Capture


def captured(workshop: Workshop, *arguments: str) -> str:
    done = workshop.manage("capture_scenario", "t_bug", *arguments, SCENARIO="t_few")
    assert done.returncode == 0, done.stderr
    return (workshop.folder / "t_bug.py").read_text()


def test_captured_rooms_have_fresh_codes_and_rounded_coordinates(lab: Workshop) -> None:
    source = captured(lab, "filter_price__lt=46&order=-price", "--limit", "4")
    assert source.startswith('"""4 of 6 rooms, captured on ')
    assert 'EXPECT = {"filter_price__lt=46": 4}' in source
    assert "✓ filter_price__lt=46 → 4 rooms" in lab.load("t_bug", "--reset").stdout
    rows = "SELECT price, code, latitude FROM room WHERE price IN (42, 43, 44, 45) ORDER BY price DESC"
    real, copied = lab.sql("t_few", rows), lab.sql("t_bug", rows)
    assert [price for price, *_ in copied] == lab.prices("t_bug") == [45, 44, 43, 42]
    assert not {code for _, code, _ in real} & {code for _, code, _ in copied}
    assert [latitude for *_, latitude in copied] == [round(latitude, 3) for *_, latitude in real]


def test_codes_and_places_can_be_kept(lab: Workshop) -> None:
    captured(lab, "--keep-codes", "--keep-places")
    lab.load("t_bug", "--reset")
    rows = "SELECT code, size, price, latitude, longitude FROM room ORDER BY id"
    assert lab.sql("t_bug", rows) == lab.sql("t_few", rows)


def test_what_was_altered_is_not_expected(lab: Workshop) -> None:
    source = captured(lab, "bbox=-10,50,10,53")
    assert 'EXPECT = {"": 10}' in source
    assert lab.load("t_bug", "--reset").returncode == 0


def test_capture_writes_to_standard_output_too(lab: Workshop) -> None:
    done = lab.manage("capture_scenario", "t_bug", "--output", "-", "--limit", "1", SCENARIO="t_few")
    compile(done.stdout, "t_bug.py", "exec")
    assert not (lab.folder / "t_bug.py").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t_few"], "is there already"),
        (["T-few"], "cannot be a scenario's name"),
        (["t_bug", "prize__lt=5"], "unknown parameter. Next: ./manage.py capture_scenario t_bug"),
        (["t_bug", "price__lt=0"], "No room matches"),
        (["t_bug", "--limit", "0"], "--limit must be at least 1"),
        (["t_bug", "--output", "/nowhere/t_bug.py"], "cannot be written"),
    ],
)
def test_what_cannot_be_captured_writes_nothing(lab: Workshop, arguments: list[str], message: str) -> None:
    files = set(lab.folder.iterdir())
    with isolation.django_on("scenario_t_few"):
        done = lab.call("capture_scenario", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert set(lab.folder.iterdir()) == files
