"""
Benchmarks of the API against two other frameworks: `make bench`, or `python -m benchmarks --help`.

    __main__       the command line
    targets        this project, Django REST framework, FastAPI: their commands and URLs
    measuring      the rounds, and the samples of each
    report         the tables, in Markdown
    load           the load generators (wrk, or one in Python), and the reader of exports
    servers        a target as a process
    databases      the databases of the runs, bench_<rooms>
    stopping       Ctrl-C and SIGTERM
    machine        cores, CPU time and memory, from Linux's /proc

And how much the tests notice: `make mutants`, or `python -m benchmarks.mutants --help`.
"""
