"""The doctor names what is planted: each fault of the table, some of two at once, and those of a small network."""

from __future__ import annotations

import re

import pytest

from rnn_common.doctor import diagnose
from rnn_common.doctor.diagnosis import Diagnosis
from tests.doctor.measure import rank
from tests.doctor.planted import OTHERS, PLANTS, Planting, letter, pairs
from tests.doctor.small_networks import WRONG, Wrong

NAMED = ("named", "tied", "the same by another name")


@pytest.fixture(autouse=True)
def _seen_alone(monkeypatch):
    """What a probe cannot show takes as long to say as the rest, and is not asked here."""
    monkeypatch.setattr(Diagnosis, "_blind", lambda self: ())


def once() -> list[Planting]:
    """Each plant once, by turns in each cell, in one direction and two, on this side and that, shown and hidden.

    `measure.py` plants all of them in every way.
    """
    found = []
    for n, plant in enumerate((*PLANTS, *OTHERS)):
        cell, directions = plant.cells[n % len(plant.cells)], plant.directions[n // 2 % len(plant.directions)]
        side, hides = "ab"[n % 2], n // 2 % 2 and plant.verdict == "explained"
        found.append(Planting(cell, directions, ((plant, side),), side if hides else "", n))
    return found


@pytest.mark.parametrize("planting", once(), ids=str)
def test_a_single_fault_is_named(planting):
    report = planting.report()
    assert rank(planting, report) in NAMED, f"{planting.missed(report)} not in\n{report}"


@pytest.mark.parametrize("planting", pairs(12), ids=str)
def test_two_faults_at_once_are_named(planting):
    report = planting.report()
    assert rank(planting, report) in NAMED, f"{planting.missed(report)} not in\n{report}"


@pytest.mark.parametrize("plant", [each for each in PLANTS if each.moved][::3], ids=lambda each: each.name)
def test_the_gates_in_which_it_shows_first(plant):
    report = Planting(plant.cells[0], 1, ((plant, "b"),)).report()
    first = report.first
    assert first is not None
    assert first.step == 0
    assert sorted(letter(gate) for gate, apart in first.gates.items() if apart > report.bound) == sorted(plant.moved)


@pytest.mark.parametrize(
    ("wrong", "framework"),
    [(each, name) for each in WRONG for name in (("torch",) if "reads" in each.options else ("torch", "tf"))],
    ids=lambda each: getattr(each, "name", each),
)
@pytest.mark.parametrize("side", "ab")
def test_a_fault_of_a_network_is_named(wrong: Wrong, side, framework):
    right, other = wrong.pair(framework)
    report = diagnose(right, other) if side == "b" else diagnose(other, right)
    said = report.notes if wrong.verdict == "different weights" else [each.name for each in report.causes]
    pattern = wrong.says if side == "b" else f"{wrong.says}|{wrong.undone}"
    assert report.verdict == wrong.verdict, str(report)
    assert any(re.search(pattern, each) for each in said), str(report)
