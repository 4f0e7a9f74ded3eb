"""How fast each framework runs each cell: `rnn-parity bench`, or `make bench`.

- `workloads`: what is run, by the names under which it was published.
- `contenders`: who runs it.
- `timing`: the arithmetic: paired ratios and their intervals, slopes, operations, memory.
- `runs`: brings them together into a report.
- `tables`, `plots`: what a person sees of a report.
"""
