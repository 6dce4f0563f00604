"""
Reads from replicas: PostgreSQL's own streaming replication, Django's database router.

    DATABASE_REPLICA_URLS → addresses.py → settings.DATABASES
    replicas.py   asks each server four times a second; which replicas may be read, and why another may not
    router.py     the database that the running request reads from
    reading.py    a public view, on a replica that may be read, then on the next one, last on the primary
    written.py    how far a replica has to be for those who have just written, in a signed cookie

Without replicas none of it is loaded.
"""
