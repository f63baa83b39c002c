"""Settings of the service: a mistake is a sentence that names the variable, before it starts."""

import subprocess
import sys

import pytest

from serving.settings import load_settings
from tudsr.errors import SettingsError


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"SLOTS": "1"}, r"TUDSR_SERVE_SLOTS: .*greater than or equal to 2 \(got '1'\)"),
        ({"MAX_WAIT_S": "soon"}, "TUDSR_SERVE_MAX_WAIT_S: .*number"),
        ({"DEADLINE_S": "900"}, "MAX_DEADLINE_S: .*less than TUDSR_SERVE_DEADLINE_S.*900: raise"),
        ({"MAX_DEADLINE_S": "60"}, r"MAX_DEADLINE_S: .*is 120: raise this one.*\(got '60'\)"),
    ],
)
def test_a_value_out_of_bounds_names_its_variable(monkeypatch, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(f"TUDSR_SERVE_{name}", value)
    with pytest.raises(SettingsError, match=told):
        load_settings()


@pytest.mark.parametrize("content", [None, ""])
def test_tokens_that_are_not_there_do_not_open_the_service(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "tokens").write_text(content)
    monkeypatch.setenv("TUDSR_SERVE_TOKENS_FILE", str(tmp_path / "tokens"))
    with pytest.raises(SettingsError, match="token"):
        load_settings().all_tokens()


def test_the_command_ends_with_the_sentence_alone(monkeypatch):
    monkeypatch.setenv("TUDSR_SERVE_SLOTS", "1")
    serve = [sys.executable, "-m", "tudsr", "serve", "--model", "nowhere"]
    ended = subprocess.run(serve, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "TUDSR_SERVE_SLOTS" in ended.stderr and "Traceback" not in ended.stderr
