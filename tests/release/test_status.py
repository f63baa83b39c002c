"""``tudsr status`` tells of the last run alone, and advises what ``tudsr promote`` will take."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pipelines.placement import begun, drawing
from tests.release.conftest import verdict
from tudsr.cli import app
from tudsr.images.atomic import write_text
from tudsr.places import outputs_dir
from tudsr.release.gate import Verdict
from tudsr.release.promotion import promote
from tudsr.release.registry import champion
from tudsr.release.summary import RunSummary, read_summary, write_summary

pytestmark = pytest.mark.usefixtures("shared_store")
SHIPPED = "shipped-0123456789ab"


def status():
    return CliRunner().invoke(app, ["status"])


@pytest.fixture
def ran(name):
    """What the last run came to."""

    def to(version=None, champion=None, beats=None, **gate):
        said = Verdict.model_validate(verdict(champion, beats, **gate))
        write_summary(RunSummary(run="run 7", model=name, verdict=said, version=version))
        return said

    return to


def test_a_run_that_failed_says_nothing_of_the_one_before(make, ran):
    ran(make().version)
    assert "gate: open" in status().output
    begun("tiny")
    told = status()
    assert "(profile tiny) did not finish" in told.output and told.exit_code == 1
    assert "gate" not in told.output and "tudsr promote" not in told.output


def test_a_pipeline_that_is_only_drawn_is_no_run(ran):
    ran("1")
    before = read_summary()
    with drawing():
        begun("tiny")
    assert read_summary() == before


def test_before_the_first_run_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TUDSR_OUTPUTS", str(tmp_path / "fresh"))
    told = status()
    assert "zenml pipeline run tudsr_full" in told.output and told.exit_code == 1


def test_the_version_is_this_runs_and_not_the_newest(make, ran, name):
    ran(make(1).version)
    make(2)
    told = status().output
    assert f"registered: {name} version 1" in told
    assert f"tudsr promote 1 --name {name}" in told


def test_a_closed_gate_and_a_failed_packaging_register_nothing(ran):
    ran(open=False)
    assert "gate: closed" in (closed := status().output) and "nothing was packaged" in closed
    ran()
    assert "nothing was registered" in (broken := status().output)
    assert "tudsr promote" not in closed + broken


def test_the_report_is_shown_with_its_own_verdict_alone(make, ran):
    evaluation = outputs_dir() / "run" / "evaluation"
    said = ran(make().version)
    write_text(evaluation / "verdict.json", said.model_dump_json())
    assert str(evaluation / "report.html") in status().output.replace("\n", "")
    ran("1", perceptual="another")
    told = status().output.replace("\n", "")
    assert str(evaluation / "report.html") not in told and "from the cache" in told


def test_the_champion_run_again_keeps_what_it_was_promoted_by(make, ran, name):
    make(1)
    promote(name)
    make(2, champion="1", beats=True)
    promote(name)
    before = champion(name).tags
    ran(make(2, champion="2", beats=False).version, champion="2", beats=False)
    assert champion(name).tags == before and before["compared_with"] == "1"
    told = status().output
    assert "it is the champion" in told
    assert "does not beat" not in told and "tudsr promote" not in told


@pytest.mark.parametrize(("low", "taken"), [(-0.001, True), (0.001, False)])
def test_status_advises_what_promote_will_take(make, ran, low, taken):
    """A draw with what stands in, and a clear loss to it."""
    seen = {"smaller": 5, "count": 12}
    interval = {"x4": {"mean": 0.002, "low": low, "high": 0.003, **seen}}
    gate = {"champion": SHIPPED, "beats": False, "versus_champion": interval}
    ran(make(**gate).version, **gate)
    told = " ".join(status().output.split())
    assert "does not beat the model that comes with the project" in told
    assert ("tudsr promote 1 --name" in told) is taken
    assert ("--force REASON" in told) is not taken


def test_a_registry_that_does_not_answer_is_not_taken_for_a_refusal(make, ran, monkeypatch):
    ran(make(champion=SHIPPED, beats=True).version, champion=SHIPPED, beats=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = status()
    assert told.exit_code == 0 and "gate: open" in told.output
    assert "127.0.0.1:9 refused" in told.output and "--force" not in told.output
