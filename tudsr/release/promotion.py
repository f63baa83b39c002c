"""Making a version champion, and going back; every change is in the ledger."""

from __future__ import annotations

from tudsr.errors import RegistryError
from tudsr.release import ledger
from tudsr.release.gate import Verdict
from tudsr.release.registry import (
    CHALLENGER,
    RegisteredVersion,
    by_alias,
    champion,
    clear_champion,
    gate_record,
    get_version,
    set_champion,
)


def promote(name: str, version: str | None, force: str | None, actor: str) -> RegisteredVersion:
    """Make a version (by default the challenger) the champion.

    Raises:
        RegistryError: nothing to promote, a gate that was closed, or a version that lost to the
            champion or was not compared with it, unless ``force`` gives a reason.
    """
    with ledger.locked():
        wanted = get_version(name, version) if version else by_alias(name, CHALLENGER)
        if wanted is None:
            raise RegistryError(f"model {name!r} has no challenger: run `make run` to train one")
        current = note_outside_move(name, actor)
        if current is not None and current.version == wanted.version:
            return wanted
        objection = _objection(wanted, current)
        if objection and not force:
            raise RegistryError(
                f"version {wanted.version} is not promoted: {objection}. "
                "To promote it all the same: --force REASON"
            )
        reason = f"forced: {force} ({objection})" if force and objection else force or "gate open"
        before = current.version if current else None
        set_champion(name, wanted.version)
        ledger.append(name, "promote", before, wanted.version, actor, reason)
    return get_version(name, wanted.version)


def rollback(name: str, actor: str) -> RegisteredVersion | None:
    """Go back to what was champion before; None if there was none.

    Raises:
        RegistryError: no champion, or no earlier one in the ledger.
    """
    with ledger.locked():
        current = note_outside_move(name, actor)
        if current is None:
            raise RegistryError(f"model {name!r} has no champion to go back from")
        moves = [e for e in ledger.read_ledger(name) if e.to_version == current.version]
        earlier = next((e for e in reversed(moves) if e.action != "rollback"), None)
        if earlier is None:
            raise RegistryError(f"the ledger knows no champion before version {current.version}")
        if earlier.from_version is None:
            clear_champion(name)
        else:
            set_champion(name, get_version(name, earlier.from_version).version)
        ledger.append(name, "rollback", current.version, earlier.from_version, actor, "rollback")
    return champion(name)


def note_outside_move(name: str, actor: str) -> RegisteredVersion | None:
    """The champion now; a move that the ledger did not make is recorded as such.

    Call it with the ledger locked. ``actor`` is who noticed.
    """
    current = champion(name)
    entries = ledger.read_ledger(name)
    known = entries[-1].to_version if entries else None
    now = current.version if current else None
    if now != known:
        ledger.append(name, "moved outside", known, now, actor, "the alias was moved in MLflow")
    return current


def _objection(wanted: RegisteredVersion, current: RegisteredVersion | None) -> str | None:
    """Why a version should not become champion, or None."""
    verdict = Verdict.model_validate(gate_record(wanted))
    if not verdict.open:
        return "its gate was closed"
    if current is None:
        return None
    if verdict.champion != current.version:
        compared = f"version {verdict.champion}" if verdict.champion else "no champion"
        return (
            f"its gate compared it with {compared}, but the champion is now version "
            f"{current.version}; run the pipeline again to compare them"
        )
    if not verdict.beats_champion:
        lost = ", ".join(
            f"{scale}: {p.mean:+.4f} [{p.low:+.4f}, {p.high:+.4f}]"
            for scale, p in verdict.versus_champion.items()
        )
        return (
            f"it does not beat champion {current.version} on {verdict.perceptual} "
            f"(difference and 95 % interval, lower is better: {lost})"
        )
    return None
