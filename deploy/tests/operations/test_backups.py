"""Which backups are kept, and what may be asked for."""

import pytest

from deploy.operations.backup import connection_value, disk_that_is_full, number_to_keep, surplus
from deploy.operations.database import identifier, literal
from deploy.operations.report import Failure


def backup(folder, day: int) -> str:
    path = folder / f"rentomatic-202611{day:02}T030000Z.dump"
    path.write_bytes(b"PGDMP")
    return path.name


def test_the_newest_are_kept(tmp_path):
    names = [backup(tmp_path, day) for day in (3, 1, 2)]
    assert [path.name for path in surplus(tmp_path, 1)] == [names[1], names[2]]
    assert surplus(tmp_path, 3) == surplus(tmp_path, 4) == []


def test_files_of_others_are_neither_removed_nor_counted(tmp_path):
    mine = [backup(tmp_path, day) for day in (1, 2)]
    for name in (
        "rentomatic-zebra.dump",
        "rentomatic-20991231T000000Z-copy.dump",
        "rentomatic-9.dump",
        "other.dump",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in surplus(tmp_path, 1)] == [mine[0]]


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
    assert disk_that_is_full(words, 10**9, tmp_path)[0].startswith("the database's disk")
    assert disk_that_is_full(words, 0, tmp_path)[0] == f"the disk of {tmp_path}"
    docker = "write /dev/stdout: no space left on device"
    assert disk_that_is_full(docker, 10**9, tmp_path)[0] == f"the disk of {tmp_path}"
