"""Which backups are kept, what may be asked for, and what a manifest refuses."""

import json
from datetime import UTC, datetime

import pytest

from deploy.operations import manifest
from deploy.operations.backup import disk_that_is_full, number_to_keep, remove, surplus
from deploy.operations.database import identifier, literal
from deploy.operations.report import Failure
from deploy.operations.snapshot import connection_value


def backup(folder, day: int) -> str:
    path = folder / f"rentomatic-202611{day:02}T030000Z.dump"
    path.write_bytes(b"PGDMP")
    return path.name


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_the_newest_are_kept(tmp_path):
    names = [backup(tmp_path, day) for day in (3, 1, 2)]
    assert [path.name for path in surplus(tmp_path, 1, NOW)] == [names[1], names[2]]
    assert surplus(tmp_path, 3, NOW) == surplus(tmp_path, 4, NOW) == []


def test_files_of_others_are_neither_removed_nor_counted(tmp_path):
    mine = [backup(tmp_path, day) for day in (1, 2)]
    for name in (
        "rentomatic-zebra.dump",
        "rentomatic-20991231T000000Z-copy.dump",
        "rentomatic-9.dump",
        "other.dump",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in surplus(tmp_path, 1, NOW)] == [mine[0]]


@pytest.mark.parametrize("text", ["0", "00", "-1", "many", "", "1.5", "٣"])
def test_a_number_that_keeps_nothing_is_refused(text):
    with pytest.raises(Failure, match="no number of backups to keep; nothing was saved") as refused:
        number_to_keep(text)
    assert refused.value.status == 2


def test_names_reach_sql_as_names():
    assert identifier('a"b; DROP') == '"a""b; DROP"'
    assert literal("it's") == "'it''s'"
    assert connection_value("it's \\ it") == r"'it\'s \\ it'"


def test_a_full_disk_is_the_one_that_is_full(tmp_path):
    words = 'pg_dump: error: could not write "base/pgsql_tmp": No space left on device'
    assert disk_that_is_full(words, 10**9, tmp_path, "replica1") == (
        f"the database's disk ({words.strip()})",
        "docker compose exec replica1 df -h /var/lib/postgresql",
    )
    assert disk_that_is_full(words, 0, tmp_path, "db")[0] == f"the disk of {tmp_path}"
    docker = "write /dev/stdout: no space left on device"
    assert disk_that_is_full(docker, 10**9, tmp_path, "db")[0] == f"the disk of {tmp_path}"


def test_backups_from_the_future_are_neither_removed_nor_counted_nor_newest(tmp_path):
    """A clock that was a year ahead, or one that has gone back a year, takes no backup away."""
    mine = [backup(tmp_path, day) for day in (1, 2)]
    ahead = tmp_path / "rentomatic-20271101T030000Z.dump"
    ahead.touch()
    assert [path.name for path in surplus(tmp_path, 1, NOW)] == [mine[0]]
    assert manifest.newest(tmp_path, NOW) == datetime(2026, 11, 2, 3, tzinfo=UTC)
    assert manifest.future(tmp_path, NOW) == [ahead]
    assert surplus(tmp_path, 1, NOW.replace(year=2025)) == []


def test_a_backup_goes_with_all_that_belongs_to_it(tmp_path, described):
    other = tmp_path / "rentomatic-20261101T030000Z.dump.json"
    other.touch()
    remove(described)
    assert list(tmp_path.iterdir()) == [other]


# --- The manifest


@pytest.fixture
def described(tmp_path):
    """A dump with its manifest."""
    path = tmp_path / "rentomatic-20261120T030000Z.dump"
    path.write_bytes(b"PGDMP" + bytes(100))
    manifest.write(
        path,
        manifest.Manifest(
            at="20261120T030000Z",
            site="rentomatic-1234",
            host="rooms.example.com",
            image="rentomatic-1234:1",
            postgresql=180004,
            database_bytes=10**7,
            migrations=["rooms.0001_room"],
            rows={"room": 4},
            seconds=1.5,
            parts={"dump": manifest.part(path)},
        ),
    )
    return path


def refusal(path) -> Failure:
    with pytest.raises(Failure, match="nothing was changed") as refused:
        manifest.check_parts(path, manifest.read(path))
    assert refused.value.next_step
    return refused.value


def test_a_whole_backup_is_what_its_manifest_says(described):
    found = manifest.read(described)
    manifest.check_parts(described, found)
    assert found.rows == {"room": 4}
    assert found.total_bytes == 105
    assert manifest.beside(described).stat().st_mode & 0o777 == 0o600


def test_a_backup_that_was_cut_off_is_refused_with_both_sizes(described):
    described.write_bytes(described.read_bytes()[:-1])
    assert "it has 104 bytes of 105" in refusal(described).reason


@pytest.mark.parametrize("position", [0, 50, 104])
def test_a_flipped_bit_is_refused(described, position):
    content = bytearray(described.read_bytes())
    content[position] ^= 1
    described.write_bytes(content)
    assert "its SHA-256 differs" in refusal(described).reason


def test_a_missing_part_is_named(described):
    manifest.beside(described).unlink()
    assert "has no manifest" in refusal(described).reason
    described.unlink()
    assert "cannot be read" in refusal(described).reason


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', '{"format": "x"}', "\x00"])
def test_a_damaged_manifest_is_refused_without_a_traceback(described, text):
    manifest.beside(described).write_text(text)
    assert "is damaged" in refusal(described).reason


def test_a_manifest_that_was_cut_off_anywhere_is_refused(described):
    path = manifest.beside(described)
    whole = path.read_text()
    for length in range(len(whole.rstrip())):
        path.write_text(whole[:length])
        refusal(described)


def test_a_manifest_of_a_later_program_asks_for_that_program(described):
    path = manifest.beside(described)
    fields = json.loads(path.read_text()) | {"format": 2, "coming": True}
    path.write_text(json.dumps(fields))
    assert refusal(described).next_step.startswith("git pull")


def test_rows_that_differ_are_named_by_table():
    assert manifest.differences({"room": 4, "user": 1}, {"room": 4, "user": 1}) == []
    assert manifest.differences({"room": 4, "user": 1}, {"room": 3, "job": 2}) == [
        "job has 2 rows of none",
        "room has 3 rows of 4",
        "user has no rows of 1",
    ]


def test_a_migration_is_newer_where_the_version_has_its_app():
    known = ["rooms.0001_room", "auth.0001_initial"]
    assert manifest.newer(["rooms.0001_room", "rooms.0002_more", "gone.0001"], known) == ["rooms.0002_more"]
