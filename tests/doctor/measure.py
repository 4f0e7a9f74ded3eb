"""How many of the plants are named right: `python -m tests.doctor.measure [PAIRS] [SECONDS]` prints the shares."""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections import Counter

import numpy as np

from rnn_common.doctor import Report, probe
from rnn_common.doctor.calls import apart
from rnn_common.doctor.faults import Suspect
from rnn_common.doctor.search import single_faults
from tests.doctor.planted import Planting, pairs, singles


def rank(planting: Planting, report: Report) -> str:
    if not planting.missed(report):
        return "tied" if any(cause.ties for cause in report.causes) else "named"
    if report.verdict != "explained":
        return report.verdict
    if not report.certain:
        return "other, uncertain"
    return "the same by another name" if computes_the_same(planting, report) else "WRONG"


def computes_the_same(planting: Planting, report: Report) -> bool:
    """Whether what the report says, no more than what was planted, comes to what is seen on another probe."""
    if len(report.causes) > len(planting.faults):
        return False
    a, b = planting.sides()
    for call in probe.calls(a, b, seed=1):
        for name, side in (("a", a), ("b", b)):
            layers = side.layers or (b if name == "a" else a).layers
            causes = [each for each in report.causes if each.side == name and not each.declared]
            catalogue = {at.fault.name: at for at in single_faults(layers, call)}
            if not all(each.name in catalogue for each in causes):
                return False
            suspect = Suspect(tuple(catalogue[each.name] for each in causes))
            if apart(suspect.seen(layers, call), side.run(call), call.lengths) > suspect.rounding(
                layers, call, "float32"
            ):
                return False
    return True


def main(count: int, seconds: float, step: int = 1, which: str = "both") -> None:
    for title, plantings in (("singles", singles()[::step]), ("pairs", pairs(count))):
        if which not in ("both", title):
            continue
        ranks: Counter[str] = Counter()
        times = []
        for planting in plantings:
            started = time.process_time()
            try:
                report = planting.report(seconds)
                found = rank(planting, report)
                said = "; ".join(f"{each.side}: {each.name}" + (f" [{len(each.ties)} ties]" if each.ties else "")
                                 for each in report.causes) or report.verdict  # fmt: skip
                said += f" | {report.deviation:.1e}" + (" out of time" if not report.whole else "")
            except Exception as error:
                found, said = "error", f"{type(error).__name__}: {error}"
            times.append(time.process_time() - started)
            ranks[found] += 1
            if found not in ("named", "tied"):
                print(f"{found} · {planting} · {said}", flush=True)
        shares = ", ".join(f"{name} {number} ({number / len(plantings):.1%})" for name, number in ranks.most_common())
        print(
            f"{title}: {len(plantings)}: {shares}; {np.mean(times):.2f} s each, at most {max(times):.1f} s", flush=True
        )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int((arguments or ["100"])[0]), float((arguments[1:] or ["30"])[0]), int((arguments[2:] or ["1"])[0]),
         (arguments[3:] or ["both"])[0])  # fmt: skip
