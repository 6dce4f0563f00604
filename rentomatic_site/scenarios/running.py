"""Running a scenario's code on its new database: the call of run(), its output, and its traceback."""

import sys
import traceback
from contextlib import redirect_stdout
from io import StringIO
from typing import TextIO

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connection, transaction

from rentomatic_site.scenarios import ScenarioError
from rentomatic_site.scenarios.discovery import Scenario
from rentomatic_site.scenarios.isolation import wait_for_threads
from rentomatic_site.scenarios.sources import folder

OUTPUT_LIMIT = 10_000
"""Characters of the output of `run()` that are kept and printed again at later loads."""


class Tee(StringIO):
    """Copies what is written to `stream` and keeps it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(text)
        self.stream.flush()
        return super().write(text)


def run(scenario: Scenario, seed: int) -> tuple[BaseException | None, str]:
    """
    Call run() of the scenario in one transaction; return the error that it raised, and its output.

    Rows that it stored before the error stay for inspection, unless a statement failed in PostgreSQL outside
    of an inner `transaction.atomic()`: then the transaction is rolled back.
    """
    failures: list[BaseException] = []
    ContentType.objects.clear_cache()  # ids differ from one database to the next
    with redirect_stdout(Tee(sys.stdout)) as printed:
        try:
            module = scenario.module(seed)
            if not callable(getattr(module, "run", None)):
                raise ScenarioError(f"{scenario.path} has no function run(). Next: write `def run():` in it.")
            with wait_for_threads(failures.append), transaction.atomic():
                try:
                    module.run()
                except (Exception, SystemExit) as error:
                    failures.append(error)
        except ScenarioError:
            raise
        except (Exception, SystemExit) as error:  # at import, or a constraint that is checked at commit
            failures.append(error)
    if not failures:
        set_sequences()
        vacuum()
    return (failures[0] if failures else None), printed.getvalue()[:OUTPUT_LIMIT]


def store_output(output: str) -> None:
    """
    Store the output of `run()` in the scenario's database, for later loads. It contains passwords of staff
    users, and every role can read the comment on a database, even without the privilege to connect.
    """
    with connection.cursor() as session:
        session.execute("CREATE SCHEMA load_scenario")
        session.execute("CREATE TABLE load_scenario.output AS SELECT %s::text AS printed", [output])


def stored_output() -> str:
    """The output of `run()`, from the database of Django's connection; "" where it was not stored."""
    with connection.cursor() as session:
        session.execute("SELECT to_regclass('load_scenario.output') IS NOT NULL")
        if session.fetchone() != (True,):
            return ""
        session.execute("SELECT printed FROM load_scenario.output")
        ((printed,),) = session.fetchall()
    return str(printed)


def set_sequences() -> None:
    """Set each table's sequence to its largest id: a scenario may set ids itself."""
    with connection.cursor() as session:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(apps.get_models())):
            session.execute(statement)


def vacuum() -> None:
    """Collect the planner's statistics and freeze the rows, for all clones."""
    with connection.cursor() as session:
        session.execute("VACUUM (FREEZE, ANALYZE)")


def own_traceback(error: BaseException) -> str:
    """The traceback with only the frames in the scenarios' folder, and the error."""
    trace = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = trace
    while link:
        link.stack = traceback.StackSummary.from_list(own_frames(link))
        for name in ("__cause__", "__context__"):
            if (origin := getattr(link, name)) and not own_frames(origin):
                setattr(link, name, None)
        link = link.__cause__ or link.__context__
    return "".join(trace.format()).rstrip()


def own_frames(trace: traceback.TracebackException) -> list[traceback.FrameSummary]:
    """The frames in the scenarios' folder."""
    return [frame for frame in trace.stack if frame.filename.startswith(str(folder()))]
