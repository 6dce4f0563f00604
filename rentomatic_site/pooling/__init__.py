"""
A pooler in transaction mode, such as PgBouncer, between the web processes and PostgreSQL: many threads share
a few connections, each for the time of a transaction.

    DATABASE_POOLER_URL → address.py → settings.POOLED → connecting.py, by wsgi.py

What needs a session of its own does not work there: locks that outlast a transaction, SET, prepared
statements. Commands need it, so they connect to the server itself; requests use transactions and SET LOCAL.
limits.py has what each connection is to have all the same.
"""
