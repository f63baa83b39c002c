"""Promotion and roll-back: moving the alias ``champion``, with every move in the ledger."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tudsr.errors import RegistryError
from tudsr.release.ledger import Action, Ledger, LedgerEntry, champions, now
from tudsr.release.registry import (
    CHALLENGER,
    CHAMPION,
    RegisteredVersion,
    is_unused,
    registry_client,
    versions_by,
)
from tudsr.release.tags import NO_CHAMPION, SHIPPED_MODEL, in_words, interval_sentence
from tudsr.tracking import tracking_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient


def promote(
    name: str, version: str | None = None, force_reason: str | None = None, actor: str = ""
) -> LedgerEntry:
    """Make a version champion and write it into the ledger.

    Args:
        name: the registered model.
        version: its number; None for the challenger.
        force_reason: promote although it lost to the champion or was compared with another one.
            A closed gate is never forced.
        actor: who does it.

    Raises:
        RegistryError: no such version, a closed gate, or a comparison that speaks against it.
    """
    if force_reason is not None and not force_reason.strip():
        raise RegistryError("--force needs a reason: it goes into the ledger")
    _require_registry(name)
    ledger = Ledger()
    with ledger.locked(), registry_client() as client:
        found = versions_by(client, name)
        current = _with_alias(found, CHAMPION)
        _note_outside_move(ledger, name, current)
        candidate = _candidate(found, name, version)
        objection = _objection(candidate, current)
        if objection and force_reason is None:
            raise RegistryError(objection)
        reason = (force_reason or "").strip() or "the gate is open"
        return _move(client, ledger, candidate, current, "promote", reason, actor, bool(objection))


def check(name: str, version: str | None, force_reason: str | None = None) -> None:
    """Whether ``promote`` would move the alias; nothing is moved or written. None: the challenger.

    Raises:
        RegistryError: what ``promote`` would raise.
    """
    _require_registry(name)
    with registry_client() as client:
        found = versions_by(client, name)
        candidate = _candidate(found, name, version)
        objection = _objection(candidate, _with_alias(found, CHAMPION))
    if objection and force_reason is None:
        raise RegistryError(objection)


def rollback(name: str, actor: str = "") -> LedgerEntry:
    """Make the champion before this one champion again, by the ledger.

    Raises:
        RegistryError: no earlier champion, or none that still exists.
    """
    _require_registry(name)
    ledger = Ledger()
    with ledger.locked(), registry_client() as client:
        found = {v.version: v for v in versions_by(client, name)}
        current = _with_alias(list(found.values()), CHAMPION)
        _note_outside_move(ledger, name, current)
        line = champions(_entries(ledger, name))
        earlier = [v for v in line[:-1] if v in found and (not current or v != current.version)]
        if not earlier:
            held = f"version {current.version} is the first champion" if current else "no champion"
            raise RegistryError(
                f"nothing to roll back to: {held}, says the ledger {ledger.path}. If another "
                "machine made the earlier promotions, set TUDSR_LEDGER to its ledger; else give a "
                "version from `tudsr models` to `tudsr promote`"
            )
        target = found[str(earlier[-1])]
        return _move(client, ledger, target, current, "rollback", "rolled back", actor, False)


def note_outside_move(name: str) -> LedgerEntry | None:
    """Enter a move of ``champion`` that the ledger did not make; the entry, or None."""
    if is_unused():
        return None
    ledger = Ledger()
    with ledger.locked(), registry_client() as client:
        current = _with_alias(versions_by(client, name), CHAMPION)
        return _note_outside_move(ledger, name, current)


def _require_registry(name: str) -> None:
    if is_unused():
        raise RegistryError(f"no version of {name} is registered yet: run `make run`")


def _with_alias(found: list[RegisteredVersion], alias: str) -> RegisteredVersion | None:
    return next((v for v in found if alias in v.aliases), None)


def _candidate(found: list[RegisteredVersion], name: str, version: str | None) -> RegisteredVersion:
    """The version meant; it must not be the champion already, and its gate must be open."""
    if version is None:
        candidate = _with_alias(found, CHALLENGER)
        missing = "there is no challenger"
    else:
        candidate = next((v for v in found if v.version == version), None)
        missing = f"there is no version {version}"
    if candidate is None:
        have = ", ".join(v.version for v in found) or "none; run `make run`"
        raise RegistryError(f"{missing} of {name} to promote. Versions: {have}")
    if CHAMPION in candidate.aliases:
        raise RegistryError(f"version {candidate.version} of {name} is the champion already")
    if candidate.tags.get("gate") != "open":
        raise RegistryError(
            f"version {candidate.version} of {name} did not pass the gate, which --force cannot "
            "open: train a better model with `make run`"
        )
    return candidate


def _objection(candidate: RegisteredVersion, current: RegisteredVersion | None) -> str | None:
    """Why this version should not follow the champion or the model that stands in, or None."""
    compared = candidate.tags.get("compared_with", NO_CHAMPION)
    if current is not None and compared != current.version:
        return (
            f"version {candidate.version} was compared with {in_words(compared)}, but the champion "
            f"is version {current.version} now: run the pipeline again (`make run`) to compare "
            "them, or promote it all the same with --force REASON"
        )
    if compared == NO_CHAMPION or candidate.tags.get("beats_champion") == "true":
        return None
    if current is None and not (compared.startswith(SHIPPED_MODEL) and _clearly_lost(candidate)):
        return None  # what it lost to is champion no more, or only stands in: a draw will do
    interval = interval_sentence(
        candidate.tags.get("versus_champion", ""), candidate.tags.get("perceptual", "")
    )
    whom = in_words(compared) if current is None else f"the champion, version {current.version}"
    return (
        f"version {candidate.version} does not beat {whom} ({interval}): promote it all the same "
        "with --force REASON"
    )


def _clearly_lost(candidate: RegisteredVersion) -> bool:
    """Whether the interval lies above zero at some scale, or none was recorded."""
    told = json.loads(candidate.tags.get("versus_champion") or "{}")
    return not told or any(interval["low"] > 0 for interval in told.values())


def _move(
    client: MlflowClient,
    ledger: Ledger,
    target: RegisteredVersion,
    current: RegisteredVersion | None,
    action: Action,
    reason: str,
    actor: str,
    forced: bool,
) -> LedgerEntry:
    """Move the alias, then write it down: killed in between, it is noted as moved outside."""
    client.set_registered_model_alias(target.name, CHAMPION, target.version)
    if CHALLENGER in target.aliases:
        client.delete_registered_model_alias(target.name, CHALLENGER)
    return ledger.append(
        LedgerEntry(
            at=now(),
            actor=actor or "unknown",
            action=action,
            registry=_registry_id(),
            model=target.name,
            moved_from=current.version if current else None,
            moved_to=target.version,
            reason=reason,
            forced=forced,
        )
    )


def _note_outside_move(
    ledger: Ledger, name: str, current: RegisteredVersion | None
) -> LedgerEntry | None:
    entries = _entries(ledger, name)
    known = entries[-1].moved_to if entries else None
    present = current.version if current else None
    if known == present:
        return None
    return ledger.append(
        LedgerEntry(
            at=now(),
            actor="unknown",
            action="moved outside",
            registry=_registry_id(),
            model=name,
            moved_from=known,
            moved_to=present,
            reason="the alias was moved in MLflow, not by tudsr",
        )
    )


def _entries(ledger: Ledger, name: str) -> list[LedgerEntry]:
    here = _registry_id()
    return [e for e in ledger.entries() if e.model == name and e.registry == here]


def _registry_id() -> str:
    """A hash of the registry's address, the same for all who reach it, each with a password."""
    return hashlib.sha256(without_password(tracking_uri()).encode()).hexdigest()[:12]
