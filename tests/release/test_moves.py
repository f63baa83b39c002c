"""Moves of the champion from two processes and from two machines."""

from __future__ import annotations

import threading

import pytest

from tudsr.errors import RegistryError
from tudsr.release import promotion
from tudsr.release.promotion import promote, rollback
from tudsr.release.registry import CHALLENGER, by_alias, champion

pytestmark = pytest.mark.usefixtures("shared_store")


def test_a_challenger_registered_during_a_promotion_keeps_its_alias(make, name, monkeypatch):
    """The promotion has read the aliases when the registration begins."""
    make(1)
    weigh = promotion._objection
    second = threading.Thread(target=make, args=(2,))

    def slowly(*versions):
        second.start()
        second.join(timeout=1.5)
        return weigh(*versions)

    monkeypatch.setattr(promotion, "_objection", slowly)
    promote(name)
    second.join()
    assert champion(name).version == "1"
    assert by_alias(name, CHALLENGER).version == "2"


def test_another_machine_rolls_back_by_the_same_ledger(make, name, store, tmp_path, monkeypatch):
    make(1)
    promote(name)
    make(2, champion="1", beats=True)
    promote(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    monkeypatch.setenv("TUDSR_OUTPUTS", str(tmp_path / "elsewhere"))
    with pytest.raises(RegistryError, match=r"version 2 is the first champion.*TUDSR_LEDGER"):
        rollback(name)
    monkeypatch.setenv("TUDSR_LEDGER", str(store / "ledger.jsonl"))
    assert rollback(name).moved_to == "1"


def test_everybodys_password_leads_to_the_same_registry(monkeypatch):
    def seen_as(address):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        return promotion._registry_id()

    assert seen_as("https://ada:1@mlflow.example/x") == seen_as("https://bob:2@mlflow.example/x")
    assert seen_as("https://mlflow.example/x") != seen_as("https://mlflow.example/y")
