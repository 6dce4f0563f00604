"""query_lab: what PostgreSQL does with a query on scenarios. capture_scenario: real rooms as Python."""

import gzip
import json
import re
import shutil
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from rentomatic_site import postgres
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
    line = next(line for line in output.splitlines() if line.startswith(name))
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
    shutil.rmtree(loaded.folder / "t_bug", ignore_errors=True)


def test_the_table_shows_plan_and_index_on_each_scenario(lab: Workshop) -> None:
    done = lab.call("query_lab", "filter_price__gt=490&order=price", "--on", "t_skewed,t_few")
    assert done.returncode == 0, done.stderr
    name, what, rooms, milliseconds, plan, index, planned, true, *_ = cells(done.stdout, "t_skewed")
    assert (name, what, rooms, index) == ("t_skewed", "page", "3,000", "room_price")
    assert plan.endswith("Scan")
    assert int(true) == lab.sql("t_skewed", "SELECT count(*) FROM room WHERE price > 490")[0][0]
    assert 0 <= float(milliseconds) < 1000
    assert int(planned) > 0
    assert cells(done.stdout, "t_few")[4] == "Sort over Seq Scan"


def test_the_planner_sees_that_a_skewed_price_is_no_narrow_filter(lab: Workshop) -> None:
    frequent = cells(lab.call("query_lab", "price__eq=50", "--on", "t_skewed").stdout, "t_skewed")
    rare = cells(lab.call("query_lab", "price__eq=123", "--on", "t_skewed").stdout, "t_skewed")
    assert frequent[5] == "room_pkey"  # it walks the table in order, and finds a page of rooms at once
    assert rare[5] == "room_price"


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
    assert cells(done.stdout, "t_skewed, before")[4] == "Incremental Sort over Index Scan"
    assert cells(done.stdout, "t_skewed, after")[4:6] == ["Index Scan", "query_lab_index"]
    assert lab.databases() == before
    assert lab.sql("t_skewed", "SELECT 1 FROM pg_indexes WHERE indexname = 'query_lab_index'") == []


def test_sql_shows_the_statement_with_its_values(lab: Workshop) -> None:
    done = lab.call("query_lab", "filter_price__lt=66", "--on", "t_few", "--sql")
    assert re.search(r"SELECT .* WHERE room\.price < 66.* LIMIT 101", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prize__lt=66"], 'prize__lt: unknown parameter. Next: ./manage.py query_lab "filter_price__lt=66"'),
        (["", "--on", "t_absent"], "t_absent is not loaded. Next: ./manage.py load_scenario t_absent"),
        (["", "--what", "pages"], "--what pages: it is one or more of page,count,csv,clusters"),
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


def test_counts_exports_and_clusters_have_their_plans(lab: Workshop) -> None:
    done = lab.call("query_lab", "price__gt=490&order=price", "--on", "t_skewed", "--json")
    figures = {one["what"]: one for one in json.loads(done.stdout)}
    assert list(figures) == ["page", "count", "csv", "clusters"]
    assert {one["scenario"] for one in figures.values()} == {"t_skewed"}
    assert {(one["rooms"], one["truth"]) for one in figures.values()} == {(3000, figures["page"]["truth"])}
    assert figures["csv"]["index"] == "room_price"
    assert all(one["milliseconds"] > 0 for one in figures.values())
    page = lab.call("query_lab", "price__gt=490", "--on", "t_skewed", "--what", "page", "--json")
    assert [one["what"] for one in json.loads(page.stdout)] == ["page"]


def test_an_index_is_tried_on_the_database_as_it_stands(lab: Workshop) -> None:
    lab.load("t_few", "--as", "t_edited")
    lab.sql("t_edited", "DELETE FROM room WHERE price > 41")
    arguments = ("", "--on", "t_edited", "--what", "page", "--index", "code")
    done = lab.call("query_lab", *arguments)
    assert cells(done.stdout, "t_edited, before")[2] == cells(done.stdout, "t_edited, after")[2] == "2"
    # Both sides have fresh statistics.
    assert cells(done.stdout, "t_edited, before")[6] == cells(done.stdout, "t_edited, after")[6] == "2"


def test_connections_of_a_served_site_are_not_in_the_way_of_a_copy(lab: Workshop) -> None:
    arguments = ("", "--on", "t_few", "--what", "page", "--index", "code")
    with postgres.session("scenario_t_few") as site:
        site.execute("SET application_name = 'rentomatic'")
        assert lab.call("query_lab", *arguments).returncode == 0
    with postgres.session("scenario_t_few") as somebody:
        somebody.execute("SET application_name = 'psql'")
        done = lab.call("query_lab", *arguments)
        assert "t_few cannot be copied while somebody works on it. Next: end psql (process" in done.stderr


# --- Capture


def captured(workshop: Workshop, *arguments: str, scenario: str = "t_few") -> str:
    done = workshop.manage("capture_scenario", "t_bug", *arguments, SCENARIO=scenario)
    assert done.returncode == 0, done.stderr
    return (workshop.folder / "t_bug.py").read_text()


def test_captured_rooms_have_fresh_codes_and_rounded_coordinates(lab: Workshop) -> None:
    source = captured(lab, "filter_price__lt=46&order=-price", "--limit", "4", "--neighbours", "2")
    assert source.startswith('"""4 of 6 rooms, and 2 that just do not match, captured on ')
    assert "✓ filter_price__lt=46&order=-price → 4 rooms by code" in lab.load("t_bug", "--reset").stdout
    rows = "SELECT price, code, latitude FROM room WHERE price BETWEEN 42 AND 47 ORDER BY id"
    real, copied = lab.sql("t_few", rows), lab.sql("t_bug", rows)
    assert [price for price, *_ in copied] == lab.prices("t_bug") == [42, 43, 44, 45, 46, 47]
    assert not {code for _, code, _ in real} & {code for _, code, _ in copied}
    assert [latitude for *_, latitude in copied] == [round(latitude, 3) for *_, latitude in real]


def test_codes_and_places_can_be_kept(lab: Workshop) -> None:
    captured(lab, "--keep-codes", "--keep-places")
    lab.load("t_bug", "--reset")
    rows = "SELECT code, size, price, latitude, longitude FROM room ORDER BY id"
    assert lab.sql("t_bug", rows) == lab.sql("t_few", rows)


CLOSE = """
    from rooms.seeding import room

    def run():
        for price, latitude in [(60, 51.5), (50, 51.50049), (60, 51.50051), (50, 51.50149), (60, 51.52)]:
            room(price=price, latitude=latitude, longitude=-0.1001, size=20)
"""


@pytest.mark.parametrize(
    ("query", "exact"),
    [
        ("order=-price", 0),  # ties
        ("order=-price,size&filter_price__gte=50", 0),
        ("bbox=-0.2,51.4,0,51.50051", 1),  # rounded up it is outside
        ("filter_latitude__lt=51.5005", 0),
        ("filter_latitude__eq=51.50049", 1),
        ("order=-latitude", None),
        ("near=-0.1,51.5&within=100", None),
        ("near=-0.10004,51.50049", None),
    ],
)
def test_the_captured_page_shows_the_same_rooms_in_the_same_order(
    lab: Workshop, query: str, exact: int | None
) -> None:
    lab.write("t_close", CLOSE)
    lab.load("t_close")
    source = captured(lab, query, scenario="t_close")
    if exact is not None:
        assert ("of them exact" in source) == bool(exact)
    done = lab.load("t_bug", "--reset")
    assert "by code" in done.stdout
    assert done.returncode == 0, done.stdout


def test_no_code_and_no_place_of_a_room_is_in_the_file(lab: Workshop) -> None:
    ((code, latitude),) = lab.sql("t_few", "SELECT code, latitude FROM room WHERE price = 45")
    source = captured(lab, f"filter_code__eq={code}&filter_latitude__gte={latitude}")
    assert str(code) not in source
    assert str(latitude) not in source
    assert lab.load("t_bug", "--reset").returncode == 0


def test_many_captured_rooms_are_in_a_data_file_that_counts_as_the_scenario(lab: Workshop) -> None:
    source = captured(lab, "order=-price", "--limit", "2000", scenario="t_skewed")
    assert len(source) < 3000
    done = lab.load("t_bug", "--reset")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ order=-price&limit=20 → 20 rooms by code" in done.stdout
    columns = "SELECT size, price FROM room ORDER BY price DESC, id DESC LIMIT 2000"
    assert lab.sql("t_bug", columns) == lab.sql("t_skewed", columns)
    data = lab.folder / "t_bug" / "rooms.csv.gz"
    data.write_bytes(gzip.compress(gzip.decompress(data.read_bytes()) + b""))
    assert gzip.decompress(data.read_bytes()).startswith(b"code,size,price,latitude,longitude\n")
    assert "It is stale" in lab.load("t_bug").stdout


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
        (["t_bug", "--neighbours", "-1"], "--neighbours at least 0"),
        (["t_bug", "--output", "/nowhere/t_bug.py"], "cannot be written"),
    ],
)
def test_what_cannot_be_captured_writes_nothing(lab: Workshop, arguments: list[str], message: str) -> None:
    files = set(lab.folder.rglob("*"))
    with isolation.django_on("scenario_t_few"):
        done = lab.call("capture_scenario", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert set(lab.folder.rglob("*")) == files
