"""
Mutation testing: faults are put into a copy of the project, and the tests of the module run on each.

cosmic-ray finds the places, changes the code and keeps the results. In the order of a run: project (the
copy), sample (which mutants), tests (which tests for which module), measuring, pytest_runs, report.
"""
