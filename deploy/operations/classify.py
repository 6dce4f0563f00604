"""
What migrations would do to a site that serves meanwhile, judged by their SQL before they run.

Requests go on while a migration runs, and the old version serves until the new replicas are ready. So a
migration must not block readers or writers for long, must leave the old version working, and must be one that
can be taken back.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from deploy.operations.statements import split, statements

NAME = r'((?:"[^"]+"|[\w$]+)(?:\.(?:"[^"]+"|[\w$]+))?)'


@dataclass(frozen=True)
class Hazard:
    """A step of a migration that is not safe, why, and the way that is."""

    migration: str
    kind: str
    """`lock`, `rewrite`, `incompatible`, `irreversible` or `unknown`"""
    step: str
    reason: str
    safe_way: str

    def __str__(self) -> str:
        return f"{self.migration}: {self.step}\n    {self.reason}. Safe: {self.safe_way}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """What a statement, or one action of ALTER TABLE, may match."""

    pattern: str
    kind: str
    reason: str
    safe_way: str
    unless: str = ""

    def matches(self, text: str) -> bool:
        return bool(re.match(self.pattern, text, re.I)) and not (
            self.unless and re.search(self.unless, text, re.I)
        )


TWO_RELEASES = "in two releases: first one whose code does without it, then, when that serves, this migration"

# What a default may be so that PostgreSQL stores it once instead of in every row.
CONSTANT = (
    r"DEFAULT\s+\(*(?:[+-]?[\d.]+|E?'(?:[^']|'')*'|TRUE|FALSE|NULL|"
    r"(?:STATEMENT_TIMESTAMP|NOW)\(\)|CURRENT_TIMESTAMP)"
    r"(?:::[\w ]+)?\)*(?=$|\s)"
)

STATEMENTS = (
    Rule(
        r"CREATE\s+(UNIQUE\s+)?INDEX\b",
        "lock",
        "it blocks writes until the index is built",
        "AddIndexConcurrently (django.contrib.postgres.operations) in a migration with atomic = False",
        unless=r"^CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY",
    ),
    Rule(
        r"DROP\s+INDEX\b",
        "lock",
        "it waits for all readers of the table, and all that come later wait for it",
        "RemoveIndexConcurrently in a migration with atomic = False",
        unless=r"^DROP\s+INDEX\s+CONCURRENTLY",
    ),
    Rule(
        r"REINDEX\b",
        "lock",
        "it blocks writes, and reads of the index",
        "REINDEX … CONCURRENTLY in a migration with atomic = False",
        unless="CONCURRENTLY",
    ),
    Rule(
        r"(CLUSTER|VACUUM\s+(\(.*FULL|FULL))\b",
        "rewrite",
        "it rewrites the table and blocks all",
        "leave it to autovacuum",
    ),
    Rule(
        r"REFRESH\s+MATERIALIZED\s+VIEW\b",
        "lock",
        "it blocks readers of the view",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY, with a unique index",
        unless="CONCURRENTLY",
    ),
    Rule(r"LOCK\b", "lock", "it blocks who uses the table until the migration's end", "do without the lock"),
    Rule(r"TRUNCATE\b", "incompatible", "it removes all rows under the old version", TWO_RELEASES),
    Rule(
        r"DROP\s+(TABLE|VIEW|MATERIALIZED\s+VIEW)\b",
        "incompatible",
        "the old version may read it",
        TWO_RELEASES,
    ),
    Rule(
        r"DROP\s+(FUNCTION|PROCEDURE|TYPE|TRIGGER|SEQUENCE|SCHEMA|EXTENSION|DOMAIN)\b",
        "incompatible",
        "the old version may need it",
        TWO_RELEASES,
    ),
    Rule(
        r"(WITH\b.*)?(UPDATE|DELETE\s+FROM)\b",
        "lock",
        "it locks every row that it changes until the migration's end, and who writes one waits",
        "UpdateInBatches (rooms/online) in a migration with atomic = False, which commits batch by batch",
    ),
    Rule(r"DO\b", "unknown", "a block of code cannot be judged by its text", "read it; then --accept"),
)
"""For statements other than ALTER TABLE; the first that matches counts."""

ACTIONS = (
    Rule(r"DROP\s+CONSTRAINT\b", "", "", ""),
    Rule(
        r"DROP\s+(COLUMN\s+)?(IF\s+EXISTS\s+)?" + NAME,
        "incompatible",
        "the old version reads and writes the column",
        TWO_RELEASES,
    ),
    Rule(
        r"RENAME\b",
        "incompatible",
        "the old version knows the old name only",
        "add a new column, fill it, let one release write both, then drop the old one",
        unless=r"^RENAME\s+CONSTRAINT\b",
    ),
    Rule(
        r"ALTER\s+(COLUMN\s+)?" + NAME + r"\s+(SET\s+DATA\s+)?TYPE\b",
        "rewrite",
        "it writes the whole table anew and blocks readers and writers meanwhile",
        "AlterFieldOnline (rooms/online) in a migration with atomic = False, where the old version can live "
        "with the new type: it fills a second column in batches, builds its indexes, and exchanges the two",
    ),
    Rule(
        r"ALTER\s+(COLUMN\s+)?" + NAME + r"\s+SET\s+NOT\s+NULL",
        "lock",
        "it reads the whole table under a lock that blocks all, and the old version may write NULL",
        "ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, and VALIDATE CONSTRAINT in a later migration",
    ),
    Rule(
        r"ADD\s+CONSTRAINT\b.*\bUSING\s+INDEX\b",
        "",
        "",
        "",
    ),
    Rule(
        r"ADD\s+CONSTRAINT\b.*\b(UNIQUE|PRIMARY\s+KEY|EXCLUDE)\b",
        "lock",
        "it builds an index under a lock that blocks all",
        "build the unique index CONCURRENTLY, then ADD CONSTRAINT … USING INDEX",
    ),
    Rule(
        r"ADD\s+CONSTRAINT\b",
        "lock",
        "it reads the whole table under a lock that blocks writers, or all",
        "AddConstraintNotValid, then ValidateConstraint in a migration of its own",
        unless=r"\bNOT\s+VALID\b",
    ),
    Rule(
        r"(SET\s+(LOGGED|UNLOGGED|TABLESPACE|ACCESS\s+METHOD)|SET\s+WITH)",
        "rewrite",
        "it writes the whole table anew and blocks all",
        "do it while the site is stopped, or not at all",
    ),
)
"""For the actions of ALTER TABLE but ADD COLUMN; a rule without a kind finds no fault."""

REWRITING_COLUMN = Rule(
    r"ADD\b",
    "rewrite",
    "each row gets a value of its own, so it writes the whole table anew and blocks all meanwhile",
    "AddField with null=True; in the next migration a db_default, which only new rows get; in a third one, "
    "with atomic = False, UpdateInBatches (rooms/online) for the others",
)
MISSING_VALUE = Rule(
    r"ADD\b",
    "incompatible",
    "the old version inserts rows without the column, which are refused",
    "null=True, or db_default, which PostgreSQL fills in for the old version",
)
INDEXED_COLUMN = Rule(
    r"ADD\b",
    "lock",
    "it builds an index under a lock that blocks all",
    "add the column first, then build the index CONCURRENTLY",
)


def hazards(forwards: dict[str, str], backwards: dict[str, str]) -> list[Hazard]:
    """
    What is not safe in migrations, from `sqlmigrate` and `sqlmigrate --backwards` of each.

    A table that is made here is nobody's yet: whatever is done to it is safe.
    """
    made: set[str] = set()
    found = []
    for migration, sql in forwards.items():
        found += [
            Hazard(migration, rule.kind, step, rule.reason, rule.safe_way) for rule, step in unsafe(sql, made)
        ]
        if way_back := irreversible(backwards.get(migration, "")):
            found.append(
                Hazard(
                    migration,
                    "irreversible",
                    way_back,
                    "after it, rollback to the version that serves now is refused",
                    "give the operation its reverse (reverse_sql, reverse_code)",
                )
            )
    return found


def irreversible(sql: str) -> str:
    """Django's words where a migration cannot be taken back, else empty."""
    found = re.match(r"IrreversibleError: (.*)", sql)
    return found[1] if found else ""


CODE = Rule(
    "",
    "unknown",
    "Python code cannot be judged by its SQL: it may lock rows and tables until the migration's end",
    "read it; then --accept",
)
FAILED = Rule("", "unknown", "Django cannot print its SQL", "read it; then --accept")


def unsafe(sql: str, made: set[str]) -> list[tuple[Rule, str]]:
    """The rules that a migration's SQL breaks, each with the statement; adds the tables that it makes."""
    found: list[tuple[Rule, str]] = []
    nullable: set[str] = set()
    if "THIS OPERATION CANNOT BE WRITTEN AS SQL" in sql:
        found.append((CODE, "RunPython"))
    if re.match(r"\w+(Error|Exception): ", sql):
        return [(FAILED, " ".join(sql.split())[:200])]
    for statement in statements(sql):
        created = re.match(
            rf"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{NAME}", statement, re.I
        )
        if created:
            made.add(plain(created[1]))
        elif table_of(statement) in made:
            continue
        elif re.match(r"ALTER\s+TABLE\b", statement, re.I):
            found += unsafe_actions(statement, nullable)
        else:
            found += first_match(STATEMENTS, statement, statement)
    return found


def plain(name: str) -> str:
    """A table's name without its schema and quotes."""
    return name.rpartition(".")[2].strip('"')


def table_of(statement: str) -> str:
    """The table that a statement changes, where it is one; empty where it cannot be told."""
    patterns = (
        rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?{NAME}",
        rf"CREATE\s+(?:UNIQUE\s+)?INDEX\b.*?\bON\s+(?:ONLY\s+)?{NAME}",
        rf"(?:UPDATE|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?|LOCK(?:\s+TABLE)?)\s+(?:ONLY\s+)?{NAME}",
    )
    for pattern in patterns:
        if found := re.match(pattern, statement, re.I):
            return plain(found[1])
    return ""


def first_match(rules: tuple[Rule, ...], text: str, statement: str) -> list[tuple[Rule, str]]:
    for rule in rules:
        if rule.matches(text):
            return [(rule, statement)] if rule.kind else []
    return []


def unsafe_actions(statement: str, nullable: set[str]) -> list[tuple[Rule, str]]:
    """The rules that ALTER TABLE breaks; adds to `nullable` the new columns that may stay empty."""
    head = re.match(rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?{NAME}\s*\*?\s+", statement, re.I)
    if head is None:
        return [(FAILED, statement)]
    found: list[tuple[Rule, str]] = []
    for action in split(statement[head.end() :], "comma"):
        if re.match(r"ADD\s+(?!CONSTRAINT\b|CHECK\b|UNIQUE\b|PRIMARY\b|FOREIGN\b|EXCLUDE\b)", action, re.I):
            found += [(rule, statement) for rule in faults_of_new_column(action)]
            if not has(r"\bNOT\s+NULL\b", action):
                nullable.add(new_column(action))
        elif (
            dropped := re.match(rf"ALTER\s+(?:COLUMN\s+)?{NAME}\s+DROP\s+DEFAULT", action, re.I)
        ) is not None:
            if plain(dropped[1]) not in nullable:
                found.append((MISSING_VALUE, statement))
        else:
            unnamed = re.sub(
                r"^ADD\s+(?=CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)", "ADD CONSTRAINT ", action, flags=re.I
            )
            found += first_match(ACTIONS, unnamed, statement)
    return found


def new_column(action: str) -> str:
    found = re.match(rf"ADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{NAME}", action, re.I)
    return plain(found[1]) if found else ""


def faults_of_new_column(action: str) -> list[Rule]:
    """ADD COLUMN: what it fills in, what the old version does not, and what is built with it."""
    tests: tuple[tuple[Rule, Callable[[str], bool]], ...] = (
        (REWRITING_COLUMN, rewrites),
        (
            MISSING_VALUE,
            lambda text: has(r"\bNOT\s+NULL\b", text) and not has(r"\b(DEFAULT|GENERATED)\b", text),
        ),
        (INDEXED_COLUMN, lambda text: has(r"\b(UNIQUE|PRIMARY\s+KEY)\b", text)),
    )
    return [rule for rule, broken in tests if broken(action)]


def rewrites(action: str) -> bool:
    stored = has(r"\bGENERATED\b.*\bSTORED\b", action) or has(r"\bGENERATED\b.*\bIDENTITY\b", action)
    serial = has(r"\b(SMALL|BIG)?SERIAL\d?\b", action)
    return stored or serial or (has(r"\bDEFAULT\b", action) and not has(rf"\b{CONSTANT}", action))


def has(pattern: str, text: str) -> bool:
    return bool(re.search(pattern, text, re.I))
