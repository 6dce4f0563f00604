"""A column in the place of one of another type, while the table is used."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, NotSupportedError, ProgrammingError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Field, Model

from rooms.online.batches import update_in_batches
from rooms.online.locks import briefly, execute, without_lock_timeout


class Exchange:
    """A column in the place of one of another type; `field` is the second column's, in a model of its own."""

    def __init__(
        self,
        schema_editor: BaseDatabaseSchemaEditor,
        before: "Field[Any, Any]",
        after: "Field[Any, Any]",
        field: "Field[Any, Any]",
    ) -> None:
        self.schema_editor = schema_editor
        self.connection = schema_editor.connection
        self.before, self.after, self.field = before, after, field
        self.quote = schema_editor.quote_name
        self.table = self.quote(before.model._meta.db_table)
        self.first, self.second = self.quote(str(before.column)), self.quote(str(field.column))
        self.type = str(field.db_type(self.connection))
        name = f"{before.model._meta.db_table}_{field.column}"
        self.function, self.present = self.quote(name), self.quote(f"{name}_present")
        # The last one in the order of names: it copies what the others have made of the row, and does not
        # make a row that is otherwise as before differ for them.
        self.trigger = self.quote(f"zz_{name}")
        self.indexes = self.differing(before.model._meta.indexes, "indexes")
        self.constraints = self.differing(before.model._meta.constraints, "constraints")

    def differing(self, those: Sequence[Any], kind: str) -> dict[str, Any]:
        """By name, the indexes or constraints of the model that have the column, with another name."""
        found = {}
        for one in those:
            if str(self.sql(one, self.before.model)) != str(self.sql(one, self.field.model)):
                other = next(o for o in getattr(self.field.model._meta, kind) if o.name == one.name).clone()
                other.name = f"{one.name}_next"
                found[one.name] = other
        return found

    def sql(self, one: Any, model: type[Model]) -> str:
        return str(one.create_sql(model, self.schema_editor))

    def run(self) -> None:
        types = self.types()
        if self.field.column not in types and types[str(self.before.column)] == self.type:
            return  # killed after the exchange, before Django noted the migration
        self.expect_a_plain_column()
        self.expect_fitting_values()
        try:
            self.add_column()
            self.fill()
            self.add_constraints()
            with without_lock_timeout(self.connection):
                self.build()
            self.exchange()
        except (DataError, IntegrityError, ProgrammingError):  # which this would raise again and again
            with suppress(DatabaseError):
                self.put_back()
            raise

    def types(self) -> dict[str, str]:
        """The type of each column of the table."""
        rows = execute(
            self.connection,
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [self.table],
        )
        return {row[0]: row[1] for row in rows}

    def expect_a_plain_column(self) -> None:
        """NotSupportedError where something belongs to the column that would be lost with it."""
        known = {*self.indexes, *self.constraints}
        rows = execute(
            self.connection,
            "SELECT coalesce(c.relname, k.conname)::text, pg_describe_object(d.classid, d.objid, d.objsubid) "
            "FROM pg_depend d "
            "LEFT JOIN pg_class c "
            "ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'i' "
            "LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid "
            "JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
            "WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s::regclass AND a.attname = %s "
            "AND k.contype IS DISTINCT FROM 'n' AND NOT EXISTS (SELECT FROM pg_attrdef "
            "WHERE d.classid = 'pg_attrdef'::regclass AND oid = d.objid AND adnum = d.refobjsubid)",
            [self.table, self.before.column],
        )
        others = sorted({described for name, described in rows if name not in known})
        if self.before.null != self.after.null:
            others.append("a change of null")
        ((generated,),) = execute(
            self.connection,
            "SELECT attidentity <> '' OR attgenerated <> '' FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attname = %s",
            [self.table, self.before.column],
        )
        if generated:
            others.append("values that PostgreSQL generates")
        if others:
            raise NotSupportedError(
                f"AlterFieldOnline cannot keep what belongs to {self.first}: {', '.join(others)}. "
                "Next: take its steps by hand (rooms/online/exchange.py)"
            )

    def expect_fitting_values(self) -> None:
        """An error before the trigger is there, which would refuse to write what does not fit."""
        execute(self.connection, f"SELECT count({self.first}::{self.type}) FROM {self.table}")

    def add_column(self) -> None:
        briefly(
            self.connection,
            self.table,
            f"ALTER TABLE {self.table} ADD COLUMN IF NOT EXISTS {self.second} {self.type}",
            f"CREATE OR REPLACE FUNCTION {self.function}() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN NEW.{self.second} := NEW.{self.first}::{self.type}; RETURN NEW; END $$",
            f"CREATE OR REPLACE TRIGGER {self.trigger} BEFORE INSERT OR UPDATE ON {self.table} "
            f"FOR EACH ROW EXECUTE FUNCTION {self.function}()",
        )

    def fill(self) -> None:
        update_in_batches(
            self.connection,
            self.before.model,
            f"{self.second} = {self.first}::{self.type}",
            f"{self.second} IS NULL AND {self.first} IS NOT NULL",
            quiet=True,
        )

    def add_constraints(self) -> None:
        """Those of the first column, for new rows at once, then for all, without a lock that blocks them."""
        add = [f"{self.sql(one, self.field.model)} NOT VALID" for one in self.constraints.values()]
        names = [self.quote(one.name) for one in self.constraints.values()]
        if not self.after.null:
            check = f"CHECK ({self.second} IS NOT NULL) NOT VALID"
            add.append(f"ALTER TABLE {self.table} ADD CONSTRAINT {self.present} {check}")
            names.append(self.present)
        drop = [f"ALTER TABLE {self.table} DROP CONSTRAINT IF EXISTS {name}" for name in names]
        briefly(self.connection, self.table, *drop, *add)
        with without_lock_timeout(self.connection):
            for name in names:
                execute(self.connection, f"ALTER TABLE {self.table} VALIDATE CONSTRAINT {name}")
        if not self.after.null:  # what was validated makes a look at the rows needless
            briefly(
                self.connection,
                self.table,
                f"ALTER TABLE {self.table} ALTER {self.second} SET NOT NULL",
                f"ALTER TABLE {self.table} DROP CONSTRAINT {self.present}",
            )

    def build(self) -> None:
        """Indexes and statistics: without them the first requests after the exchange would read all rows."""
        for index in self.indexes.values():
            execute(self.connection, f"DROP INDEX CONCURRENTLY IF EXISTS {self.quote(index.name)}")
            statement = index.create_sql(self.field.model, self.schema_editor, concurrently=True)
            execute(self.connection, str(statement))
        execute(self.connection, f"VACUUM (ANALYZE) {self.table}")

    def exchange(self) -> None:
        alter = f"ALTER TABLE {self.table}"
        statements = [f"DROP TRIGGER {self.trigger} ON {self.table}", f"DROP FUNCTION {self.function}()"]
        if self.after.has_db_default():
            default, values = self.schema_editor.db_default_sql(self.after)
            text = default % tuple(self.schema_editor.quote_value(value) for value in values)
            statements.append(f"{alter} ALTER {self.second} SET DEFAULT {text}")
        statements += [f"{alter} DROP COLUMN {self.first}", f"{alter} RENAME {self.second} TO {self.first}"]
        for name, one in self.indexes.items():
            statements.append(f"ALTER INDEX {self.quote(one.name)} RENAME TO {self.quote(name)}")
        for name, one in self.constraints.items():
            statements.append(f"{alter} RENAME CONSTRAINT {self.quote(one.name)} TO {self.quote(name)}")
        for old, new in zip(self.not_null(self.before), self.not_null(self.field), strict=False):
            statements.append(f"{alter} RENAME CONSTRAINT {self.quote(new)} TO {self.quote(old)}")
        briefly(self.connection, self.table, *statements)

    def not_null(self, field: "Field[Any, Any]") -> list[str]:
        """The name of the column's NOT NULL, which is a constraint from PostgreSQL 18 on."""
        rows = execute(
            self.connection,
            "SELECT conname::text FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid "
            "WHERE conrelid = %s::regclass AND contype = 'n' AND conkey = ARRAY[attnum] AND attname = %s",
            [self.table, field.column],
        )
        return [name for (name,) in rows]

    def put_back(self) -> None:
        briefly(
            self.connection,
            self.table,
            f"DROP TRIGGER IF EXISTS {self.trigger} ON {self.table}",
            f"DROP FUNCTION IF EXISTS {self.function}()",
            f"ALTER TABLE {self.table} DROP COLUMN IF EXISTS {self.second}",
        )
