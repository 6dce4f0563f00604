"""`python -m benchmarks` with small numbers, and its parts."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import load, report, scale, targets
from benchmarks.measuring import ExportSample, Sample
from rentomatic_site import postgres

pytestmark = pytest.mark.unpooled("its servers have databases of their own")

PROJECT = Path(__file__).resolve().parents[2]
TINY = ["--seconds", "0.1", "--rounds", "1", "--generator", "python"]


@pytest.fixture(scope="session")
def peers() -> None:
    """The peers' packages; where they cannot be had, what `needs` does about a missing tool."""
    try:
        targets.install_peers()
    except targets.PeersMissingError as error:
        (pytest.fail if os.environ.get("REQUIRE_ALL_TOOLS") else pytest.skip)(str(error))


def benchmark(*options: str, module: str = "benchmarks") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, *options],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def database_exists(name: str) -> bool:
    with postgres.session() as server:
        return postgres.database_exists(server, name)


def test_a_run_compares_all_targets_and_drops_its_database(peers):
    run = benchmark("--rooms", "1001", *TINY)
    tables, progress = run.communicate(timeout=60)
    assert run.returncode == 0, progress
    assert "| requests per second | Rent-o-matic | Django REST framework | FastAPI |" in tables
    for workload in (
        "first page",
        "filtered page",
        "filtered and ordered page",
        "one room by its code",
        "page 9",
        "export as CSV",
    ):
        assert f"| {workload} |" in tables
    assert re.search(r"\| map of all rooms \| [0-9,.]+ \|  \|  \|  \|  \|", tables)
    assert "1,001 rooms: export as CSV" in progress
    assert not database_exists("bench_1001")


def test_ctrl_c_stops_the_servers_and_drops_the_database(peers):
    run = benchmark("--rooms", "1002", *TINY[2:], "--seconds", "5")
    while "first page" not in (line := run.stderr.readline()):
        assert line, "it ended before it measured"
    servers = children(run.pid)
    assert len(servers) >= 3
    time.sleep(0.3)  # into the measurement
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode == 130
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]
    assert not database_exists("bench_1002")


def test_a_run_with_more_rooms_measures_each_question_and_drops_its_databases():
    options = ["--rooms", "1004", "1005", "--workers", "1", "--rounds", "1", "--seconds", "0.2"]
    run = benchmark(*options, module="benchmarks.scale")
    tables, progress = run.communicate(timeout=300)
    assert run.returncode == 0, progress
    assert "| blocks | 1,004 | 1,005 | exponent |" in tables
    for question in (*scale.QUESTIONS, scale.IMPORT):
        assert len(re.findall(rf"^\| {re.escape(question)} \| .*[1-9]", tables, re.MULTILINE)) == 2
        assert f"1,005 rooms: {question}" in progress
    assert not database_exists("bench_1004")
    assert not database_exists("bench_1005")


def test_ctrl_c_ends_a_run_with_more_rooms_and_drops_its_database():
    run = benchmark("--rooms", "1006", "--workers", "1", module="benchmarks.scale")
    while "throughput" not in (line := run.stderr.readline()):
        assert line, "it ended before it measured"
    run.send_signal(signal.SIGINT)
    _, rest = run.communicate(timeout=60)
    assert run.returncode == 130, rest
    assert not database_exists("bench_1006")


def test_the_exponent_tells_a_flat_cost_from_one_in_proportion():
    assert scale.exponent({10_000: 5.0, 100_000: 5.0, 1_000_000: 5.0}) == 0
    assert scale.exponent({10_000: 1.0, 100_000: 10.0, 1_000_000: 100.0}) == pytest.approx(1)


def test_a_cost_that_grows_is_named_with_its_reason():
    cost = scale.Cost
    costs = {
        "first page": {1000: cost(0.001, 4), 10_000: cost(0.001, 4)},
        "count, exact": {1000: cost(0.001, 4), 10_000: cost(0.01, 40)},
    }
    lines = scale.tables(costs).splitlines()
    assert "| first page | 1.000 | 1.000 | 0.00 |" in lines
    assert "| count, exact | 4.0 | 40.0 | 1.00 |" in lines
    assert lines[-1] == f"- count, exact (1.00): {scale.REASONS['count, exact']}"
    assert lines[-2] == ""


def test_a_question_that_the_api_refuses_has_no_cost():
    cost = scale.Cost
    costs = {
        "first page": {1000: cost(0.001, 4), 10_000: cost(0.001, 4)},
        "count, exact": {1000: cost(0.001, 4)},
    }
    assert "| count, exact | 1.000 | refused | 0.00 |" in scale.tables(costs).splitlines()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_database_without_the_benchmarks_comment_stays():
    with postgres.session() as server:
        postgres.create_database(server, "bench_1003")
        try:
            run = benchmark("--rooms", "1003", *TINY)
            _, progress = run.communicate(timeout=60)
            assert run.returncode == 1
            assert "DROP DATABASE bench_1003" in progress
            assert postgres.database_exists(server, "bench_1003")
        finally:
            postgres.drop_database(server, "bench_1003")


def test_an_installation_error_has_the_next_step(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "PEERS_FOLDER", tmp_path)
    monkeypatch.setattr(targets, "HERE", tmp_path)
    (tmp_path / "requirements.txt").write_text("./no-such-package\n")
    with pytest.raises(targets.PeersMissingError, match="PIP_INDEX_URL"):
        targets.install_peers()
    assert not (tmp_path / "installed.txt").exists()


def test_an_unusable_configuration_is_named():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=PROJECT,
        env={**os.environ, "DEBUG": "off", "SECRET_KEY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("SECRET_KEY")


def test_medians_ratios_and_ranges_reach_the_tables():
    def sample(per_second: float) -> Sample:
        return Sample(
            per_second, p99=0.05, single_client=0.001, app_cpu=0.0005, database_cpu=0.0002, others=0.1
        )

    measured = {
        (targets.FIRST, "ours"): [sample(900), sample(1000), sample(5000)],
        (targets.FIRST, "theirs"): [sample(250)],
        (targets.MAP, "ours"): [sample(100)],
        (targets.EXPORT, "ours"): [ExportSample(0.5, 0.004, 50 << 20, 1 << 20)],
        (targets.EXPORT, "theirs"): [ExportSample(2.0, 0.03, 150 << 20, 100 << 20)],
    }
    tables = report.tables({10_000: measured}).splitlines()
    assert "| first page | 1,000 | 250 | **4.0** |" in tables
    assert "| map of all rooms | 100 |  |  |" in tables
    assert "| export as CSV | 0.50 s | 2.00 s | **4.0** |" in tables
    assert "| first page | 1,429 | 1,429 | **1.0** |" in tables  # per second of CPU: 500 + 200 µs each
    assert "| first page of 10,000 rooms | ours | 900–5,000 | 1.0 | 50 | 500 | 200 | 10% |" in tables
    assert "| 10,000 rooms | theirs | 2.00–2.00 | 30.0 | 150 | 100 |" in tables


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ('<http://h:1/rooms>; rel="first", <http://h:1/rooms?after=x>; rel="next"', "/rooms?after=x"),
        ('</rooms>; rel="first", </rooms?after=x&limit=5>; rel="next"', "/rooms?after=x&limit=5"),
    ],
)
def test_the_next_page_is_found(link, path):
    assert targets.next_path(link) == path


def test_no_next_page_is_an_error():
    with pytest.raises(load.LoadError):
        targets.next_path('<http://h:1/rooms>; rel="first"')


def test_the_page_length_is_replaced():
    assert targets.with_limit("/rooms?after=x&limit=5", 100) == "/rooms?after=x&limit=100"
