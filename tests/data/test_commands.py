import pytest
import yaml
from typer.testing import CliRunner

from tudsr.data.commands import app
from tudsr.data.pairs import load_pairs
from tudsr.errors import DataError


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_facts_then_validate_then_pairs(folder, tmp_path):
    pytest.importorskip("great_expectations")
    (folder / "val" / "photo0.png").write_text("text")
    profile = tmp_path / "own.yaml"
    settings = {
        "data": {"root": str(folder), "min_side_px": 64, "min_train": 2, "min_test": 1},
        "pairs": {"hr_crop_px": 64, "crops_per_photo": 1},
    }
    profile.write_text(yaml.safe_dump(settings))
    facts, verdicts, pairs = (tmp_path / name for name in ("facts.csv", "verdicts", "pairs"))
    shown = invoke("facts", "--profile", profile, "--out", facts)
    assert "7 photographs" in shown.output
    shown = invoke("validate", "--profile", profile, "--facts", facts, "--out", verdicts)
    assert "set aside val/photo0.png" in shown.output
    assert "3 train, 1 val, 2 test" in shown.output
    shown = invoke("pairs", "--profile", profile, "--validation", verdicts, "--out", pairs)
    assert shown.exit_code == 0
    assert len(load_pairs(pairs).pairs) == 3 * 2
    assert (pairs / "preview.png").is_file()


def test_a_missing_folder_is_one_clear_error(tmp_path):
    profile = tmp_path / "own.yaml"
    profile.write_text(f"data: {{root: {tmp_path / 'nowhere'}}}\n")
    shown = invoke("facts", "--profile", profile, "--out", tmp_path / "facts.csv")
    assert isinstance(shown.exception, DataError)
    assert "no data folder" in str(shown.exception)
