"""docs/serving.md names everything there is."""

import re
from pathlib import Path

import pytest

from serving.metrics import metrics
from serving.parameters import Parameters
from serving.refusal import CODES
from serving.settings import ServeSettings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text("utf-8")
SETTINGS = {n for n in ServeSettings.model_fields if n not in ("model", "device")}


def test_each_code_stands_beside_its_status():
    for code, about in CODES.items():
        assert re.search(rf"^\| {about.status} \|.*`{code}`", TEXT, re.M), code


@pytest.mark.parametrize("name", [*Parameters.model_fields])
def test_each_parameter_is_there(name):
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_setting_is_there_and_read(name):
    assert f"`{name.upper()}`" in TEXT
    sources = (Path(__file__).resolve().parents[2] / "serving").glob("*.py")
    readers = [p for p in sources if p.name != "settings.py" and f".{name}" in p.read_text("utf-8")]
    assert readers or name in ("tokens", "tokens_file"), "nothing reads it"


def test_each_metric_is_there():
    for metric in vars(metrics()).values():
        assert f"tudsr_{metric._name.removeprefix('tudsr_')}" in TEXT
