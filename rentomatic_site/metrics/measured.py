"""The metrics, in base units (seconds) as Prometheus expects. docs/deployment.md lists them."""

from prometheus_client import Counter, Gauge, Histogram

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
"""Upper bounds in seconds: 0.5 s is the objective of deploy/monitoring/rules.yml, 15 s REQUEST_TIMEOUT."""

requests = Counter(
    "rentomatic_http_requests", "Requests that have their response.", ["route", "method", "status"]
)
latency = Histogram(
    "rentomatic_http_request_duration_seconds",
    "Time until the response is complete; of an export, until it begins.",
    ["route"],
    buckets=LATENCIES,
)
in_flight = Gauge(
    "rentomatic_http_requests_in_flight",
    "Requests that were being served a second ago, exports until their last byte.",
    multiprocess_mode="livesum",
)

database_seconds = Counter(
    "rentomatic_database_seconds", "Time that requests waited for their statements.", ["route"]
)
database_errors = Counter("rentomatic_database_errors", "Statements that failed.", ["kind"])
connections = Gauge(
    "rentomatic_database_connections",
    "Open connections to the database.",
    multiprocess_mode="livesum",
)
connections_opened = Counter("rentomatic_database_connections_opened", "Connections that were opened.")
prepared = Counter(
    "rentomatic_prepared_statements",
    "Uses of prepared statements, by whether the connection had the statement (hit) or prepared it (miss).",
    ["cache"],
)

cuts = Counter(
    "rentomatic_watchdog_cuts",
    "Connections that the watchdog has cut, to the database or to a client.",
    ["connection"],
)
logins = Counter("rentomatic_logins", "Attempts to log in.", ["result"])
jobs = Counter("rentomatic_jobs", "Bulk changes, imports and undos of the admin that have ended.", ["state"])
batches = Counter("rentomatic_job_batches", "Steps of bulk changes and undos that take many transactions.")

# Series that exist from the start: a rate or an increase needs a value before the first event.
for kind in ("statement_timeout", "lock", "connection", "other"):
    database_errors.labels(kind)
for connection in ("database", "client"):
    cuts.labels(connection)
for result in ("success", "failure", "locked_out"):
    logins.labels(result)
for state in ("done", "cancelled"):
    jobs.labels(state)
