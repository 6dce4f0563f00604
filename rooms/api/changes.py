"""
The feed of changes: what a mirror of the rooms has to read so as not to miss one.

Triggers write a row to `room_change` for each room that is added, changed or deleted (migration 0008), with
the id of the transaction. Transactions commit out of order, so only rows below the oldest running transaction
are read, in the order of the transactions: nothing can appear before them later. A line is the room as it is
now, or its deletion; a room that has changed twice may come twice.

A position is valid in one history: a restored or copied database has another one. Within it, truncating the
table begins an epoch, and pruning raises the floor.
"""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api import queries
from rooms.api.errors import FieldError, Gone, ParametersError
from rooms.api.exports import STREAM_ROWS, streaming_cursor
from rooms.api.formats import NDJSON, json_line
from rooms.api.hints import closest_match
from rooms.api.pagination import read_cursor, write_cursor
from rooms.api.parameters import PARSERS, Parameter, parse_each
from rooms.api.queries import NAMES
from rooms.api.search import Search
from rooms.api.times import parse_time
from rooms.database import connection

SCOPE = "changes"

STATE = """
SELECT
    history, coalesce(state.epoch::text, '0')::numeric, horizon::text::numeric,
    coalesce(state.floor_xid::text, '0')::numeric, coalesce(state.floor_id, 0),
    to_char(
        CASE
            WHEN pg_is_in_recovery() THEN NULL  -- a replica may be behind
            WHEN horizon = pg_snapshot_xmax(snapshot) THEN statement_timestamp()
            -- What was committed before the oldest one began has a lower id.
            ELSE (SELECT xact_start FROM pg_stat_activity WHERE backend_xid = horizon::xid)
        END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    )
FROM (
    SELECT room_change_history() AS history, snapshot, pg_snapshot_xmin(snapshot) AS horizon
    FROM pg_current_snapshot() AS snapshot
) AS present
LEFT JOIN room_change_state AS state USING (history)
"""

# The subquery is a look-up by the code for each change: without a sort, the first lines come at once.
LINES = f"""
SELECT coalesce(line, concat('{{"code":"', change.code, '","deleted":true}}')), change.xid::text, change.id
FROM room_change AS change
LEFT JOIN LATERAL (
    SELECT {json_line(NAMES)} AS line FROM room WHERE room.code = change.code OFFSET 0
) AS present ON true
WHERE change.history = %s AND (change.xid, change.id) > (%s::text::xid8, %s) AND change.xid < %s::text::xid8
ORDER BY change.xid, change.id
"""

# All transactions that were running at that time have at least the id `oldest` of the last row before it.
BEGINNING = """
SELECT %s > statement_timestamp(), (
    SELECT oldest::text::numeric FROM room_change WHERE history = %s AND changed_at <= %s
    ORDER BY changed_at DESC LIMIT 1
)
"""

ANOTHER_HISTORY = (
    "This cursor is of another history of the rooms: since it was given the database was restored, copied or "
    "replaced by another."
)
ANOTHER_EPOCH = "Since this cursor was given all rooms, or all changes, were removed at once."
PRUNED = "The changes after this cursor are no longer kept."
BEFORE_HISTORY = "The changes that are kept do not reach back to this time."


@dataclass(frozen=True)
class Position:
    """A place in the feed: behind the row with this id that this transaction wrote."""

    history: int
    epoch: int
    xid: int
    id: int = 0

    @classmethod
    def parse(cls, cursor: str) -> "Position":
        """The position that a cursor stands for; ValueError with a message for the client."""
        try:
            return cls(*map(int, read_cursor(cursor, SCOPE)))
        except ValueError:
            raise ValueError(
                "is no cursor of the changes: it was cut off or altered, or is of a list; take it from the "
                "last line of /rooms/changes that has one"
            ) from None

    def line(self, **members: str | None) -> str:
        """The line of the feed that gives the cursor to go on from here."""
        values = [str(value) for value in (self.history, self.epoch, self.xid, self.id)]
        return dumps({"cursor": write_cursor(values, SCOPE), **members}) + "\n"


@dataclass(frozen=True)
class State:
    """The state of the feed at one moment."""

    history: int
    epoch: int
    """The last transaction that truncated the rooms or the changes."""
    horizon: int
    """The oldest running transaction: the feed is complete below it."""
    floor: tuple[int, int]
    """The last row that was pruned, by transaction and id."""
    complete_to: str | None
    """
    The time before which all that was committed is in the feed; None where another role holds it back, and on
    a replica, which may be behind.
    """

    @classmethod
    def read(cls) -> "State":
        with connection.cursor() as cursor:
            cursor.execute(STATE)
            history, epoch, horizon, floor_xid, floor_id, complete_to = cursor.fetchone()
        return cls(history, int(epoch), int(horizon), (int(floor_xid), floor_id), complete_to)

    def refuse(self, position: Position) -> None:
        """Raise Gone where changes after the position are not kept."""
        if position.history != self.history:
            raise Gone(ANOTHER_HISTORY)
        if position.epoch != self.epoch:
            raise Gone(ANOTHER_EPOCH)
        if (position.xid, position.id) < self.floor:
            raise Gone(PRUNED)

    def last_line(self, begun: Position | None = None) -> str:
        """The line behind all changes below the horizon."""
        end = Position(self.history, self.epoch, self.horizon)
        if begun and begun.xid > end.xid:  # a replica that is behind
            end = begun
        return end.line(complete_to=self.complete_to)


def parse_since(text: str) -> datetime:
    """The time in UTC, also where a space stands for the T; ValueError with a message for the client."""
    try:
        time = parse_time(text.replace(" ", "T", 1))
        return time.astimezone(UTC)  # PostgreSQL takes offsets up to 15:59 only
    except (ValueError, OverflowError):
        raise ValueError(
            "must be a time with its offset, as in 2026-11-21T12:00:00Z (in a URL + is written %2B)"
        ) from None


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            "after",
            "The changes after this cursor, from a line of an earlier response; opaque. Without `after` and "
            "`since` all rooms, and the cursor from which their changes follow.",
            "",
            {"type": "string"},
            Position.parse,
        ),
        Parameter(
            "since",
            "The changes since this time by the server's clock, for a mirror that has no cursor yet.",
            "2026-11-21T12:00:00Z",
            {"type": "string", "format": "date-time"},
            parse_since,
        ),
    )
}


def read(query: QueryDict) -> Generator[str, None, None]:
    """
    The lines for a query string, some thousand at a time. ParametersError with all its errors.

    The first item costs up to four queries, and raises Gone where the changes are not kept.
    """
    parsers = PARSERS | {name: parameter.parse for name, parameter in PARAMETERS.items()}
    given, values, errors = parse_each(query, parsers, PARAMETERS, unknown_parameter_error)
    if "after" in query and "since" in query:
        errors.append(FieldError("since", "cannot be given together with `after`, which says where to begin"))
    if errors:
        valid = [(name, given[name]) for name in PARAMETERS if name in given]
        raise ParametersError(errors, urlencode(valid[:1]))
    if "after" in values:
        return after(values["after"])
    return since(values["since"]) if "since" in values else copy()


def unknown_parameter_error(name: str, hinted: bool) -> FieldError:
    return FieldError(name, "unknown parameter", closest_match(name, PARAMETERS) if hinted else "")


def copy() -> Generator[str, None, None]:
    """All rooms as lines, some thousand at a time, then the cursor from which their changes follow."""
    state = State.read()  # before the rooms: what is committed in between comes twice
    rooms = queries.stream(Search({}), NDJSON)
    text = next(rooms)
    for following in rooms:
        yield text
        text = following
    yield text + state.last_line()


def since(time: datetime) -> Generator[str, None, None]:
    """The changes since a time; Gone where they are not kept, ParametersError for a time to come."""
    state = State.read()
    with connection.cursor() as cursor:
        cursor.execute(BEGINNING, [time, state.history, time])
        is_ahead, oldest = cursor.fetchone()
    if is_ahead:
        raise ParametersError([FieldError("since", "is in the future, by the clock of the database")], "")
    if oldest is None or int(oldest) <= state.epoch:
        raise Gone(BEFORE_HISTORY)
    yield from after(Position(state.history, state.epoch, min(int(oldest), state.horizon)))


def after(position: Position) -> Generator[str, None, None]:
    """
    The changes after a position as lines, some thousand at a time, each time with the cursor to go on from.

    Gone, before the first line, where they are not all kept.
    """
    state = State.read()
    state.refuse(position)  # before it is compared with transactions of another history
    with streaming_cursor() as cursor:
        cursor.execute(LINES, [state.history, str(position.xid), position.id, str(state.horizon)])
        found = cursor.fetchmany(STREAM_ROWS)
        # What was pruned or truncated before the cursor's snapshot is seen now.
        State.read().refuse(position)
        while following := cursor.fetchmany(STREAM_ROWS):
            _, xid, number = found[-1]
            yield write_lines(found) + Position(state.history, state.epoch, int(xid), number).line()
            found = following
        yield write_lines(found) + state.last_line(position)


def write_lines(found: list[tuple[str, str, int]]) -> str:
    return "".join([line + "\n" for line, _, _ in found])
