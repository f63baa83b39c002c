"""The ledger keeps order under a race, notices any change, and knows the line of champions."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal

import pytest

from tudsr.errors import RegistryError
from tudsr.release.ledger import Ledger, LedgerEntry, champions, ledger_path


def entry(action="promote", to="1", source=None, actor="ada"):
    return LedgerEntry(
        at="2026-01-01T00:00:00+00:00",
        actor=actor,
        action=action,
        registry="r",
        model="tudsr",
        moved_from=source,
        moved_to=to,
        reason="because",
    )


def filled(path, count=3):
    ledger = Ledger(path)
    with ledger.locked():
        for number in range(1, count + 1):
            ledger.append(entry(to=str(number)))
    return ledger


def test_each_line_holds_the_hash_of_the_line_before(tmp_path):
    ledger = filled(tmp_path / "l.jsonl")
    lines = ledger.path.read_text().splitlines()
    expected = ["0" * 64, *(hashlib.sha256(line.encode()).hexdigest() for line in lines[:-1])]
    assert [json.loads(line)["previous"] for line in lines] == expected
    assert [e.moved_to for e in ledger.entries()] == ["1", "2", "3"]


@pytest.mark.parametrize("damage", ["edit", "drop", "insert", "swap", "garble"])
def test_any_change_to_the_past_is_noticed(tmp_path, damage):
    ledger = filled(tmp_path / "l.jsonl", 4)
    lines = ledger.path.read_text().splitlines()
    if damage == "edit":
        lines[1] = lines[1].replace("because", "no reason")
    elif damage == "drop":
        del lines[1]
    elif damage == "insert":
        lines.insert(1, lines[0])
    elif damage == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[2] = lines[2][:20]
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RegistryError, match=r"line [23] "):
        ledger.entries()
    before = ledger.path.read_bytes()
    with pytest.raises(RegistryError):
        ledger.append(entry())
    assert ledger.path.read_bytes() == before


def _race(path, actor, count):
    ledger = Ledger(path)
    for number in range(count):
        with ledger.locked():
            ledger.append(entry(to=str(number), actor=actor))


def test_racing_processes_lose_no_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    racers = [
        context.Process(target=_race, args=(tmp_path / "l.jsonl", f"p{i}", 10)) for i in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    entries = Ledger(tmp_path / "l.jsonl").entries()
    assert len(entries) == 40
    for i in range(4):
        own = [e.moved_to for e in entries if e.actor == f"p{i}"]
        assert own == [str(n) for n in range(10)]


def _hold(path, held):
    with Ledger(path).locked():
        held.set()
        signal.pause()


def test_a_killed_holder_lets_go(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "l.jsonl", held))
    holder.start()
    assert held.wait(10)
    holder.kill()
    holder.join()
    assert filled(tmp_path / "l.jsonl", 1).entries()


def test_the_place_can_be_set(monkeypatch, tmp_path):
    assert ledger_path() == tmp_path / "outputs" / "ledger.jsonl"
    monkeypatch.setenv("TUDSR_LEDGER", str(tmp_path / "mine.jsonl"))
    assert ledger_path() == tmp_path / "mine.jsonl"


@pytest.mark.parametrize(
    ("moves", "line"),
    [
        ([], []),
        ([("promote", "1"), ("promote", "2")], ["1", "2"]),
        ([("promote", "1"), ("promote", "2"), ("rollback", "1")], ["1"]),
        ([("promote", "1"), ("promote", "2"), ("rollback", "1"), ("promote", "3")], ["1", "3"]),
        ([("promote", "1"), ("moved outside", "2"), ("moved outside", None)], ["1", "2", None]),
        ([("promote", "1"), ("promote", "2"), ("promote", "1")], ["1", "2", "1"]),
    ],
)
def test_the_line_of_champions(moves, line):
    assert champions([entry(action, to) for action, to in moves]) == line
