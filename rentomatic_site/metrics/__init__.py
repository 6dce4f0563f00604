"""
Metrics for Prometheus: what is counted, and in which files. Nothing here is imported while METRICS_BIND is
empty.

Each process of gunicorn counts in memory-mapped files of its own in METRICS_DIR (prometheus_client's
multiprocess mode); the scrape adds them up, whichever process it reaches. Labels have few values each: a
route is the name of a URL pattern, never a path.

- measured.py: the metrics
- requests.py: the middleware, the time of statements, and the signals of Django, django-axes and jobs
- files.py: the files of processes that have ended
- endpoint.py: the listener of METRICS_BIND
"""
