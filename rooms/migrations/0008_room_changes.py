from django.db import migrations

# The feed of changes (rooms/api/changes.py): triggers write one row for each change of a room, by any program.
# `history` tells this database from its copies, and `oldest` is the oldest transaction that was running
# when the row was written. What a row is about is read from `room` when the feed is read.
TABLES = """
CREATE TABLE room_change (
    history bigint NOT NULL,
    xid xid8 NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    oldest xid8 NOT NULL,
    changed_at timestamptz NOT NULL,
    code uuid NOT NULL,
    CONSTRAINT room_change_pkey PRIMARY KEY (history, xid, id)
);
CREATE INDEX room_change_time ON room_change (history, changed_at);
CREATE TABLE room_change_state (
    history bigint CONSTRAINT room_change_state_pkey PRIMARY KEY,
    epoch xid8 NOT NULL DEFAULT '0',
    floor_xid xid8 NOT NULL DEFAULT '0',
    floor_id bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE room_change IS 'Which rooms changed, for /rooms/changes. Triggers of room write and prune it.';
COMMENT ON COLUMN room_change_state.epoch IS 'The last transaction that truncated rooms or changes.';
COMMENT ON COLUMN room_change_state.floor_xid IS 'With floor_id: the last position that was pruned.';
"""
DROP_TABLES = "DROP TABLE room_change; DROP TABLE room_change_state;"

# Transaction ids mean something only in one cluster, in one database of it, on one timeline (a recovery to an
# earlier point and a failover begin another), and for one table (pg_restore --clean makes it anew).
HISTORY = """
CREATE FUNCTION room_change_history() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(
        concat_ws(
            ' ',
            system_identifier,
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            'room'::regclass::oid,
            CASE
                WHEN pg_is_in_recovery() THEN lpad(to_hex((SELECT timeline_id FROM pg_control_checkpoint())), 8, '0')
                ELSE lower(left(pg_walfile_name(pg_current_wal_lsn()), 8))
            END
        ),
        0
    )
    FROM pg_control_system()
$$;
"""

# Statement triggers with transition tables: a change of a million rooms is one INSERT of a million rows.
# Once in a thousand rows the oldest ones are pruned, at least as many as were written.
RECORD = """
CREATE FUNCTION room_record_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    mine bigint;
    transaction_id xid8;
    oldest_running xid8;
    number bigint;
    newest bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    mine := room_change_history();
    transaction_id := pg_current_xact_id();
    oldest_running := pg_snapshot_xmin(pg_current_snapshot());
    INSERT INTO room_change (history, xid, oldest, changed_at, code)
    SELECT mine, transaction_id, oldest_running, now.now, code FROM changed, clock_timestamp() AS now;
    GET DIAGNOSTICS number = ROW_COUNT;
    newest := currval('room_change_id_seq');
    IF newest / 1000 > (newest - number) / 1000 THEN
        PERFORM room_prune_changes(mine, newest, number + 2000);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION room_record_former_code() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO room_change (history, xid, oldest, changed_at, code)
    VALUES (
        room_change_history(), pg_current_xact_id(), pg_snapshot_xmin(pg_current_snapshot()), clock_timestamp(), OLD.code
    );
    RETURN NULL;
END $$;

CREATE FUNCTION room_begin_changes_again() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO room_change_state (history, epoch) VALUES (room_change_history(), pg_current_xact_id())
    ON CONFLICT (history) DO UPDATE SET epoch = excluded.epoch;
    RETURN NULL;
END $$;
"""

# Of one history at least seven days are kept, but no more than about five million rows (0.7 GB); of others
# nothing. One transaction prunes at a time, the others do not wait. Repeatable reads could only fail here.
# What a running transaction may hold back from readers stays.
PRUNE = """
CREATE FUNCTION room_prune_changes(mine bigint, newest bigint, batch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed'
        OR NOT pg_try_advisory_xact_lock(hashtext('rooms:prune_changes'))
    THEN
        RETURN;
    END IF;
    WITH first_rows AS MATERIALIZED (
        SELECT ctid, changed_at, id FROM room_change
        WHERE history = mine AND xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY history, xid, id LIMIT batch
    ), pruned AS (
        DELETE FROM room_change WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM first_rows
            WHERE changed_at < statement_timestamp() - interval '7 days' OR id <= newest - 5000000
        ))
        RETURNING xid, id
    )
    INSERT INTO room_change_state AS state (history, floor_xid, floor_id)
    SELECT mine, xid, id FROM pruned ORDER BY xid DESC, id DESC LIMIT 1
    ON CONFLICT (history) DO UPDATE SET floor_xid = excluded.floor_xid, floor_id = excluded.floor_id
    WHERE (state.floor_xid, state.floor_id) < (excluded.floor_xid, excluded.floor_id);
    DELETE FROM room_change WHERE ctid = ANY (ARRAY(
        (SELECT ctid FROM room_change WHERE history < mine ORDER BY history LIMIT batch)
        UNION ALL
        (SELECT ctid FROM room_change WHERE history > mine ORDER BY history DESC LIMIT batch)
    ));
    DELETE FROM room_change_state WHERE history <> mine;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER room_change_insert AFTER INSERT ON room REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_changes();
CREATE TRIGGER room_change_update AFTER UPDATE ON room REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_changes();
CREATE TRIGGER room_change_delete AFTER DELETE ON room REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_changes();
CREATE TRIGGER room_change_code AFTER UPDATE ON room
    FOR EACH ROW WHEN (OLD.code <> NEW.code) EXECUTE FUNCTION room_record_former_code();
CREATE TRIGGER room_change_truncate AFTER TRUNCATE ON room
    FOR EACH STATEMENT EXECUTE FUNCTION room_begin_changes_again();
CREATE TRIGGER room_change_truncate AFTER TRUNCATE ON room_change
    FOR EACH STATEMENT EXECUTE FUNCTION room_begin_changes_again();
"""
DROP_TRIGGERS = """
DROP TRIGGER room_change_insert ON room;
DROP TRIGGER room_change_update ON room;
DROP TRIGGER room_change_delete ON room;
DROP TRIGGER room_change_code ON room;
DROP TRIGGER room_change_truncate ON room;
DROP TRIGGER room_change_truncate ON room_change;
DROP FUNCTION room_record_changes();
DROP FUNCTION room_record_former_code();
DROP FUNCTION room_begin_changes_again();
DROP FUNCTION room_prune_changes(bigint, bigint, bigint);
DROP FUNCTION room_change_history();
"""

# The functions find the tables under any search_path, such as pg_restore's empty one, and never a temporary
# table of the caller's.
SEARCH_PATH = """
DO $$
DECLARE
    called regprocedure;
BEGIN
    FOREACH called IN ARRAY ARRAY[
        'room_change_history()', 'room_record_changes()', 'room_record_former_code()', 'room_begin_changes_again()'
    ]::regprocedure[] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("rooms", "0007_room_sample")]

    operations = [
        migrations.RunSQL(TABLES, DROP_TABLES),
        migrations.RunSQL(HISTORY + RECORD + PRUNE + TRIGGERS + SEARCH_PATH, DROP_TRIGGERS),
    ]
