"""`python -m rnn_benchmarks` is `rnn-parity bench`."""

from __future__ import annotations

import sys

from rnn_common.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
