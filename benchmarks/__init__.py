"""How fast each framework runs each cell: `rnn-parity bench`, or `make bench`.

- `workloads`, `settings`: what is run, by the names under which it was published or by its size; what can be asked for.
- `runner`, `contenders`, `rivals`, `own`: who runs it: our layers and the frameworks' own, what a user might pick instead, and
  the user's own from a file.
- `timing`, `rounds`: the arithmetic (paired ratios and their intervals, slopes, operations, memory); calls timed in turn.
- `comparison`, `plan`, `runs`: everybody on one workload; all workloads, and how long they take; a run, which gives a report.
- `report`, `comparing`: what was found; what changed between two reports.
- `words`, `tables`, `screen`, `plots`: what a person sees of a report.
"""
