"""Claims of speed, each a ratio to something else measured in the same run: `python -m tests.benchmarks`.

A module here with a function `rows(options) -> Iterable[Row]` is a benchmark; its name is the module's,
its title the first sentence of the module. `PROGRAMS`, where it has them, are the programs that take part,
each with the command that tells its version.
"""
