"""
How fast the API is, and against what: `make bench`, or `python -m benchmarks --help`.

    __main__       the command line
    targets        this project, Django REST framework, FastAPI: their commands and URLs
    measuring      rounds, and what one measurement yields
    report         the tables, in Markdown
    load           who asks: wrk or our own generator, and the reader of exports
    servers        a program under test as a process of its own
    databases      the databases of the runs, bench_<rooms>
    machine        cores, CPU time and memory, from Linux's /proc
"""
