"""Settings: complete, typed, read by something, and errors that teach."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tudsr.errors import SettingsError
from tudsr.profile import InterpolationSettings, Profile, dump_profile, load_profile, profile_names

ROOT = Path(__file__).resolve().parents[1]


def leaves(model: type[BaseModel]) -> set[str]:
    """Names of all settings that are not sections."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= leaves(kind)
        else:
            names.add(name)
    return names


@pytest.mark.parametrize("name", sorted(leaves(Profile)))
def test_each_setting_is_read_somewhere(name):
    sources = [p for d in ("tudsr", "steps", "pipelines") for p in (ROOT / d).rglob("*.py")]
    used = re.compile(rf"\.{name}\b")
    sources = [p for p in sources if p.parent != ROOT / "tudsr" / "profile"]
    readers = [p for p in sources if used.search(p.read_text("utf-8"))]
    assert readers, f"nothing reads the setting {name}: remove it, or use it"


@pytest.mark.parametrize("name", profile_names())
def test_each_profile_loads_and_survives_a_round_trip(name, tmp_path):
    profile = load_profile(name)
    (tmp_path / f"{name}.yaml").write_text(dump_profile(profile), "utf-8")
    assert load_profile(tmp_path / f"{name}.yaml") == profile


def test_the_profiles_that_the_design_names_are_there():
    assert profile_names() == ["sd21", "small", "smoke", "tiny"]
    for name in profile_names():
        if name != "tiny":
            run = yaml.safe_load((ROOT / "configs" / f"run-{name}.yaml").read_text("utf-8"))
            assert run == {"parameters": {"profile": name}}


def test_the_schema_is_the_one_of_the_code():
    kept = json.loads((ROOT / "configs" / "schema.json").read_text("utf-8"))
    assert kept == Profile.model_json_schema(), "run: tudsr profile --schema configs/schema.json"


def test_a_steps_settings_are_those_of_its_sections_or_of_a_part_of_one():
    linear = InterpolationSettings(before_stage1="bilinear")
    tiny = load_profile("tiny")
    upscale = tiny.upscale.model_copy(update={"interpolation": linear})
    kept = tiny.model_copy(update={"upscale": upscale}).only("data", "upscale.interpolation")
    assert (kept.data, kept.upscale.interpolation, kept.seed) == (tiny.data, linear, tiny.seed)
    assert tiny.upscale.tile_px == 544 and kept.upscale.tile_px == 512
    assert kept.base == Profile(name="").base


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stage1: {imagse: 3}", "unknown setting 'stage1.imagse'; did you mean 'images'?"),
        ("stag1: {}", "did you mean 'stage1'?"),
        ("stage1: {timestep: 200, images: -3}", "stage1.images"),
        ("stage1: {timestep: 200, images: many}", "got 'many'"),
        ("stage1: {timestep: 200, images: 3, n: 2}", "stage1.n is 2, but stage 1 trains at R"),
        (
            "stage2: {timestep: 50, images: 3, n: 3, accumulate: 16}",
            "set it to 1, 3 or a multiple of 9",
        ),
        ("- a\n- b", "not a list"),
        ("a: [", "not valid YAML"),
        ("extends: tinny", "did you mean 'tiny'?"),
        ("extends: self.yaml", "no profile"),
    ],
)
def test_a_mistake_names_itself_and_its_remedy(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_profile(path)
    assert said in str(caught.value)


def test_profiles_that_extend_in_a_circle(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {path}\n", "utf-8")
    with pytest.raises(SettingsError, match="circle"):
        load_profile(path)


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_profile("tiny").seed = 3


def test_a_section_alone_leaves_the_others_at_their_defaults():
    tiny = load_profile("tiny")
    assert tiny.only("gate").gate == tiny.gate
    assert tiny.only("gate").stage1 == load_profile("tiny").only().stage1


def test_on_the_command_line_it_is_one_sentence_and_exit_code_two():
    done = subprocess.run(
        [sys.executable, "-m", "tudsr", "profile", "tinny"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: no profile 'tinny'; did you mean 'tiny'?")
    assert "Traceback" not in done.stderr


def test_every_setting_is_described():
    """Of many a setting the schema says all that there is."""
    schema = Profile.model_json_schema()

    def undescribed(properties: dict, path: str) -> list[str]:
        found = []
        for name, field in properties.items():
            section = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            if "properties" in section:
                found += undescribed(section["properties"], f"{path}{name}.")
            elif "description" not in field:
                found.append(path + name)
        return found

    assert undescribed(schema["properties"], "") == []
