"""
Operations of migrations that change a large table while requests read and write it, for `atomic = False`:

    operations = [AlterFieldOnline("room", "price", models.BigIntegerField())]

No lock that blocks requests is waited for longer than LOCK_TIMEOUT at a time, or held for longer. What was
killed goes on where it was when it is run again.
"""

from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AlterField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from rooms.online.batches import update_in_batches
from rooms.online.exchange import Exchange


class UpdateInBatches(Operation):
    """
    An UPDATE of any number of rows of a model whose key is an integer, in batches (update_in_batches).

    `assignments` and `where` are SQL; an update has to make `where` false. The way back changes no row.
    """

    atomic = False

    def __init__(self, model_name: str, assignments: str, where: str) -> None:
        self.model_name = model_name
        self.assignments = assignments
        self.where = where

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        words = {"model_name": self.model_name, "assignments": self.assignments, "where": self.where}
        return self.__class__.__name__, [], words

    def describe(self) -> str:
        return f"Change {self.model_name} in batches: {self.assignments}"

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """No model changes."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if explained(schema_editor, f"{self.describe()} WHERE {self.where}"):
            return
        expect_no_transaction(self, schema_editor)
        model = to_state.apps.get_model(app_label, self.model_name)
        update_in_batches(schema_editor.connection, model, self.assignments, self.where)

    def database_backwards(self, *args: Any) -> None:
        """What the rows were is not known any more."""


class AlterFieldOnline(AlterField):
    """
    AlterField for another type of a column that has a plain one, which the code before the migration reads
    and writes, too.

    A second column gets each new value by a trigger, and the old ones in batches; its indexes are built
    concurrently, its constraints validated, the table is vacuumed and analysed. Then it takes the place of
    the first one, which is dropped. It needs the size of the table and its indexes on the disk once more.

    What a kill leaves is continued by the next run. Where values do not fit nothing is changed.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        connection = schema_editor.connection
        before, after = (
            state.apps.get_model(app_label, self.model_name)._meta.get_field(self.name)
            for state in (from_state, to_state)
        )
        if before.db_type(connection) == after.db_type(connection):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        name = f"{before.model._meta.db_table}.{before.column}"
        words = f"{name} becomes {after.db_type(connection)} by a second column, in batches and short locks"
        if explained(schema_editor, words):
            return
        expect_no_transaction(self, schema_editor)
        state = to_state.clone()
        other = after.clone()
        other.db_column = f"{before.column}_next"
        state.alter_field(app_label, self.model_name_lower, self.name, other, True)
        model = state.apps.get_model(app_label, self.model_name)
        Exchange(schema_editor, before, after, model._meta.get_field(self.name)).run()


def explained(schema_editor: BaseDatabaseSchemaEditor, words: str) -> bool:
    """Whether `sqlmigrate` asks, which gets a comment: the statements depend on the rows."""
    if schema_editor.collect_sql:
        schema_editor.collected_sql.append(f"-- {' '.join(words.split())}")
    return schema_editor.collect_sql


def expect_no_transaction(operation: Operation, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.in_atomic_block:
        raise NotSupportedError(
            f"{type(operation).__name__} commits step by step. Next: atomic = False in the migration"
        )
