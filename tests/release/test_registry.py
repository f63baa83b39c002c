"""Registering, promoting and rolling back against a real MLflow: a SQLite file and a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import typer
from typer.testing import CliRunner

from tests.release.conftest import provenance
from tudsr.errors import GateClosedError, ModelError, RegistryError
from tudsr.profile import RegistrySettings
from tudsr.release import commands, locate
from tudsr.release.bundle import load_bundle
from tudsr.release.ledger import Ledger
from tudsr.release.promotion import note_outside_move, promote, rollback
from tudsr.release.registry import (
    champion,
    fetch,
    list_versions,
    register,
    registry_client,
)

pytestmark = pytest.mark.usefixtures("shared_store")


def test_a_bundle_becomes_a_version_with_its_lineage(make, name):
    made = make(tags={"bento": "tudsr:abc"})
    assert (made.version, made.aliases) == ("1", ("challenger",))
    assert made.tags["code"] == provenance().code and made.tags["data"] == provenance().data
    assert made.tags["gain_x8"] == "0.2700" and made.tags["psnr_y_x4"] == "27.5000"
    assert made.tags["bento"] == "tudsr:abc" and made.tags["beats_champion"] == "none"
    assert list_versions(name) == [made]
    assert champion(name) is None


def test_the_same_bundle_twice_changes_nothing(make, name):
    first = make()
    with registry_client() as client:
        runs = len(client.search_runs([client.get_experiment_by_name("tests").experiment_id]))
        assert make() == first
        assert (
            len(client.search_runs([client.get_experiment_by_name("tests").experiment_id])) == runs
        )
    assert list_versions(name) == [first]


def test_the_same_champion_again_is_no_challenger(make, name):
    first = make()
    promote(name, actor="a")
    again = make(champion="1", beats=False)
    assert again.version == first.version and again.aliases == ("champion",)
    with pytest.raises(RegistryError, match="no challenger"):
        promote(name)


def test_a_run_of_the_pipeline_holds_the_artifacts(make):
    from tudsr.tracking import run_for

    run_id = run_for("pipeline-run-1", "tests")
    made = make(run_id=run_id)
    assert made.run_id == run_id
    with registry_client() as client:
        (folder,) = client.list_artifacts(run_id)
        files = {f.path.split("/")[-1] for f in client.list_artifacts(run_id, folder.path)}
    assert {"bundle.json", "adapter1.safetensors", "MODEL_CARD.md", "base"} <= files
    assert not any("pkl" in f or "pickle" in f for f in files)


def test_a_closed_gate_is_not_registered(make, name):
    with pytest.raises(GateClosedError):
        make(open=False)
    assert list_versions(name) == []


def test_a_damaged_bundle_is_not_registered(make, parts, tmp_path, name):
    out = parts.bundle(tmp_path / "b")
    (out / "adapter1.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"adapter1\.safetensors is damaged"):
        register(out, None, {}, RegistrySettings(model_name=name, experiment="tests"))
    assert list_versions(name) == []


def test_what_is_fetched_is_what_was_registered(make, tmp_path):
    made = make()
    got = fetch(made)
    original = tmp_path / "bundle0"
    for file in (p for p in original.rglob("*") if p.is_file()):
        assert (got / file.relative_to(original)).read_bytes() == file.read_bytes()
    (got / "adapter2.safetensors").write_bytes(b"bit rot")
    assert fetch(made) == got
    assert load_bundle(got).bundle_hash == made.bundle_hash


def test_an_artifact_damaged_in_the_registry_is_not_served(make, store):
    made = make()
    (stored,) = store.glob(f"mlartifacts/{made.run_id}/**/adapter1.safetensors")
    stored.write_bytes(b"bit rot")
    with pytest.raises(ModelError, match=r"adapter1\.safetensors is damaged"):
        fetch(made)
    assert not (store / "cache" / "bundles" / made.bundle_hash).exists()


def test_the_first_champion_needs_an_open_gate_only(make, name):
    make()
    entry = promote(name, actor="ada")
    assert (entry.moved_from, entry.moved_to, entry.actor, entry.forced) == (
        None,
        "1",
        "ada",
        False,
    )
    assert champion(name).version == "1" and champion(name).aliases == ("champion",)


def test_a_winner_follows_the_champion(make, name):
    make(1)
    promote(name)
    make(2, champion="1", beats=True)
    assert promote(name).moved_to == "2"
    assert champion(name).version == "2"


def test_a_loser_is_refused_with_the_interval_and_can_be_forced(make, name):
    make(1)
    promote(name)
    make(2, champion="1", beats=False)
    with pytest.raises(RegistryError, match=r"\+0\.0200 \(95 % interval \+0\.0100 to \+0\.0300"):
        promote(name)
    assert champion(name).version == "1"
    for blank in ("", "  "):
        with pytest.raises(RegistryError, match="needs a reason"):
            promote(name, force_reason=blank)
    entry = promote(name, force_reason="looks better", actor="ada")
    assert (entry.forced, entry.reason) == (True, "looks better")
    assert champion(name).version == "2"


def test_a_comparison_with_an_earlier_champion_does_not_count(make, name):
    make(1)
    promote(name)
    make(2, champion="1", beats=True)
    make(3, champion="1", beats=True)
    promote(name, "2")
    with pytest.raises(RegistryError, match=r"compared with version 1, but.*version 2 now.*again"):
        promote(name, "3")
    assert make(3, champion="2", beats=True).version == "3"
    assert promote(name, "3").forced is False


def test_a_closed_gate_cannot_be_forced(make, name):
    make()
    with registry_client() as client:
        client.set_model_version_tag(name, "1", "gate", "closed")
    with pytest.raises(RegistryError, match="did not pass the gate"):
        promote(name, "1", force_reason="please")


def test_what_is_not_there_is_listed(make, name):
    with pytest.raises(RegistryError, match="make run"):
        promote(name)
    make()
    with pytest.raises(RegistryError, match=r"no version 7 .*Versions: 1"):
        promote(name, "7")
    promote(name)
    with pytest.raises(RegistryError, match="champion already"):
        promote(name, "1")


def test_rolling_back_goes_down_the_line_of_champions(make, name):
    for number in (1, 2, 3):
        make(number, champion=str(number - 1) if number > 1 else None, beats=True)
        promote(name)
    assert rollback(name, "ada").moved_to == "2"
    assert rollback(name, "ada").moved_to == "1"
    assert champion(name).version == "1"
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        rollback(name)
    actions = [e.action for e in Ledger().entries() if e.model == name]
    assert actions == ["promote"] * 3 + ["rollback"] * 2


def test_rolling_back_skips_a_version_that_was_deleted(make, name):
    for number in (1, 2, 3):
        make(number, champion=str(number - 1) if number > 1 else None, beats=True)
        promote(name)
    with registry_client() as client:
        client.delete_model_version(name, "2")
    assert rollback(name).moved_to == "1"


def test_an_alias_moved_outside_counts_and_is_written_down(make, name):
    make(1)
    promote(name)
    make(2)
    with registry_client() as client:
        client.set_registered_model_alias(name, "champion", "2")
    assert champion(name).version == "2"
    assert locate.locate(name=name).version == "2"
    entry = note_outside_move(name)
    assert (entry.action, entry.moved_from, entry.moved_to) == ("moved outside", "1", "2")
    assert note_outside_move(name) is None
    assert rollback(name).moved_to == "1"


def test_the_commands_print_and_move(make, name):
    app = typer.Typer()
    for command in (commands.models, commands.promote, commands.rollback):
        app.command()(command)

    def run(*arguments):
        return CliRunner().invoke(app, [*arguments, "--name", name], catch_exceptions=False).output

    assert "make run" in run("models")
    make(1)
    assert "promoted: version 1 is champion (before: none)" in run("promote", "--actor", "ada")
    make(2, champion="1", beats=False)
    assert "Forced: nicer." in run("promote", "2", "--force", "nicer")
    assert "rolled back: version 1" in run("rollback")
    table = run("models")
    assert "champion" in table and "31.0%" in table and "27.50" in table
    with registry_client() as client:
        client.set_registered_model_alias(name, "champion", "2")
    assert "moved outside of tudsr, from 1 to 2" in run("models")


@pytest.mark.slow
def test_a_server_on_loopback_serves_as_the_file_does(make, name, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}", "--workers", "1"),
        *("--serve-artifacts", "--artifacts-destination", str(tmp_path / "server-artifacts")),
    ]
    log = (tmp_path / "server.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("TUDSR_OUTPUTS", str(tmp_path / "client"))
            made = make(1)
            assert make(1) == made
            promote(name, actor="ada")
            assert champion(name).bundle_hash == made.bundle_hash
            found = locate.locate(name=name)
            assert load_bundle(found.path).bundle_hash == made.bundle_hash
            make(2, champion="1", beats=True)
            promote(name)
            assert rollback(name).moved_to == "1"
            assert not (tmp_path / "client" / "mlflow.db").exists()
        finally:
            os.killpg(server.pid, 15)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert server.poll() is None, "the server ended by itself"
            time.sleep(0.5)
    raise AssertionError("the server did not come up in two minutes")


def test_the_tags_hold_the_interval_as_json(make):
    made = make(champion="4", beats=False)
    assert json.loads(made.tags["versus_champion"])["x4"]["low"] == 0.01
    assert (made.tags["compared_with"], made.tags["beats_champion"]) == ("4", "false")
