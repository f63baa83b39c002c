"""`tudsr base import`: what it takes over, what it records, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tudsr.cli import app
from tudsr.errors import ModelError, SettingsError
from tudsr.model.base import load_base
from tudsr.model.import_base import embed_prompt, import_base
from tudsr.profile import BaseSettings
from tudsr.provenance import file_sha256

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
VAE = Path("vae") / "diffusion_pytorch_model.safetensors"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_imported_base_needs_nothing_of_its_source(sd_source, tmp_path):
    out = tmp_path / "base"
    info = import_base(str(sd_source), out)
    shutil.rmtree(sd_source)
    base = load_base(BaseSettings(source=str(out), arch="any"))
    with torch.no_grad():
        restored = base.restore(torch.rand(1, 3, 64, 64), 200)
    assert restored.isfinite().all()
    assert not (out / "text_encoder").exists()
    recorded = json.loads((out / "base.json").read_text())
    assert recorded == info
    assert recorded["source"] == "stable-diffusion-tiny"
    assert recorded["revision"] is None
    assert recorded["arch"] == "other"
    assert recorded["imported"].startswith("20")
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert files == {*recorded["files"], "base.json"}
    assert all(file_sha256(out / n) == sha for n, sha in recorded["files"].items())


def test_a_text_encoder_written_by_an_older_version_gives_the_same_embedding(sd_source):
    """Its file holds the positions' numbers, and names under text_model."""
    expected = embed_prompt(sd_source, "a cat")
    file = sd_source / "text_encoder" / "model.safetensors"
    old = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in load_file(file).items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(old, file, {"format": "pt"})
    torch.testing.assert_close(embed_prompt(sd_source, "a cat"), expected, rtol=0, atol=0)


@pytest.mark.parametrize("prompt", ["", "a cat, 4k"])
def test_the_embedding_is_stable_diffusions_own(sd_template, prompt):
    pipeline = StableDiffusionPipeline.from_pretrained(str(sd_template), local_files_only=True)
    expected, _ = pipeline.encode_prompt(prompt, torch.device("cpu"), 1, False)
    ours = embed_prompt(sd_template, prompt)
    assert ours.shape == (1, 77, 16)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_the_prompt_is_stored_and_held_against_the_profiles(sd_source, tmp_path):
    import_base(str(sd_source), tmp_path / "base", prompt="a cat")
    stored = load_file(tmp_path / "base" / "prompt.safetensors")["prompt"]
    torch.testing.assert_close(stored, embed_prompt(sd_source, "a cat"))
    assert (stored - embed_prompt(sd_source, "")).abs().max() > 0.1
    settings = BaseSettings(source=str(tmp_path / "base"), arch="any", prompt="a cat")
    load_base(settings)
    with pytest.raises(ModelError, match=r"prompt 'a cat', the profile's is ''.*--prompt"):
        load_base(settings.model_copy(update={"prompt": ""}))


def test_the_autoencoders_old_names_are_understood(sd_source, tmp_path):
    """SD2.1's file was written before the attention layers got their present names."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = load_file(sd_source / VAE)
    renamed = {}
    for name, tensor in weights.items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = tensor
    assert renamed.keys() != weights.keys()
    save_file(renamed, sd_source / VAE, {"format": "pt"})
    import_base(str(sd_source), tmp_path / "base")
    vae = load_base(BaseSettings(source=str(tmp_path / "base"), arch="any")).codec.vae
    for name, tensor in vae.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def _remove(name):
    return lambda source: (source / name).unlink()


def _as_pickle(source):
    (source / UNET).rename((source / UNET).with_suffix(".bin"))


def _one_word_more(source):
    change(source / "tokenizer" / "vocab.json", dog=1000)


def _truncate(source):
    (source / VAE).write_bytes((source / VAE).read_bytes()[:-100])


def _text_weight_fewer(source):
    file = source / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    weights.pop(next(name for name in weights if name.endswith("layers.1.mlp.fc1.weight")))
    save_file(weights, file, {"format": "pt"})


def _of_another_width(source):
    weights = load_file(source / UNET)
    weights["conv_in.weight"] = torch.zeros(4, 4, 3, 3)
    save_file(weights, source / UNET)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda s: change(s / "scheduler/scheduler_config.json", prediction_type="v_prediction"),
            r"predicts 'v_prediction'.*needs 'epsilon'.*SD2.1-base \(512\)",
        ),
        (_remove("vae/config.json"), r"\(StableDiffusionPipeline\) lacks vae/config.json"),
        (_remove(UNET), r"lacks unet/diffusion_pytorch_model.safetensors"),
        (_remove("text_encoder/model.safetensors"), r"lacks text_encoder/model.safetensors"),
        (_remove("tokenizer/vocab.json"), r"lacks tokenizer/vocab.json"),
        (_one_word_more, r"tokenizer knows \d+ words, the text encoder \d+: they are not of one"),
        (
            _text_weight_fewer,
            r"text_encoder/model.safetensors lacks 1 weights.*layers.1.mlp.fc1.weight'.*again",
        ),
        (_as_pickle, r"pickles, which are never read.*safetensors"),
        (_truncate, r"vae/diffusion_pytorch_model.safetensors cannot be read.*Fetch it again"),
        (_of_another_width, r"does not fit its config.json: 1 weights differ.*conv_in.weight"),
        (
            lambda s: change(s / "unet/config.json", _class_name="FluxTransformer2DModel"),
            r"unet is 'FluxTransformer2DModel', needed is 'UNet2DConditionModel'",
        ),
        (lambda s: change(s / "unet/config.json", in_channels=9), r"takes 9 channels.*inpainting"),
        (
            lambda s: change(s / "unet/config.json", cross_attention_dim=2048),
            r"more than one text encoder.*SDXL",
        ),
        (lambda s: (s / "unet/config.json").write_text("["), r"unet/config.json cannot be read"),
    ],
    ids=[
        "v-prediction",
        "no-config",
        "no-weights",
        "no-text-encoder",
        "no-tokenizer",
        "another-tokenizer",
        "text-weight-missing",
        "pickle",
        "truncated",
        "wrong-weights",
        "wrong-class",
        "inpainting",
        "sdxl",
        "not-json",
    ],
)
def test_a_source_that_cannot_be_a_base(sd_source, tmp_path, damage, words):
    damage(sd_source)
    with pytest.raises(ModelError, match=words):
        import_base(str(sd_source), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_an_imported_base_is_not_imported_again(sd_source, tmp_path):
    import_base(str(sd_source), tmp_path / "base")
    with pytest.raises(ModelError, match=r"a base already: set base.source"):
        import_base(str(tmp_path / "base"), tmp_path / "other")


def test_what_is_no_base_is_never_replaced(sd_source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="is no base: give a new folder"):
        import_base(str(sd_source), tmp_path / "mine")
    with pytest.raises(ModelError, match="is the source itself"):
        import_base(str(sd_source), sd_source)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    done = CliRunner().invoke(app, ["base", "random", str(tmp_path / "mine"), "--arch", "smoke"])
    assert isinstance(done.exception, ModelError)


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """No network, and a cache of its own."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_cached_hub_model_is_imported_at_its_commit(sd_source, tmp_path, offline_hub):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = offline_hub / "models--someone--tiny-diffusion"
    (repository / "snapshots").mkdir(parents=True)
    sd_source.rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "fp16").write_text(commit)
    info = import_base("someone/tiny-diffusion", tmp_path / "base", revision="fp16")
    assert (info["source"], info["revision"]) == ("someone/tiny-diffusion", commit)
    assert info["requested_revision"] == "fp16"
    settings = BaseSettings(source=str(tmp_path / "base"), arch="any", revision=commit)
    load_base(settings)
    with pytest.raises(ModelError, match=r"is of revision 0123.*asks for ffff.*--revision ffff"):
        load_base(settings.model_copy(update={"revision": "ffff"}))
    with pytest.raises(ModelError, match="cannot fetch someone/tiny-diffusion at revision main"):
        import_base("someone/tiny-diffusion", tmp_path / "other", revision="main")


def test_a_hub_that_cannot_be_reached_and_ids_that_are_none(sd_source, tmp_path, offline_hub):
    with pytest.raises(ModelError, match=r"cannot fetch no/where from the hub.*local folder"):
        import_base("no/where", tmp_path / "base")
    with pytest.raises(ModelError, match="no folder a/b/c, and it is no id"):
        import_base("a/b/c", tmp_path / "base")
    with pytest.raises(ModelError, match="is a folder and has no revisions"):
        import_base(str(sd_source), tmp_path / "base", revision="main")


def test_import_random_and_check_on_the_command_line(sd_source, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["base", "import", str(sd_source), str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    assert "other, from stable-diffusion-tiny" in done.output
    arguments = ["--arch", "sd21-eighth", "--dtype", "bf16", "--seed", "1"]
    done = run(app, ["base", "random", str(tmp_path / "b"), *arguments])
    assert done.exit_code == 0, done.output
    assert load_file(tmp_path / "b" / UNET)["conv_in.weight"].dtype == torch.bfloat16
    assert load_file(tmp_path / "b" / VAE)["decoder.conv_in.weight"].dtype == torch.bfloat16
    load_base(BaseSettings(source=str(tmp_path / "b"), arch="sd21-eighth"))
    with pytest.raises(ModelError, match=r"is 'sd21-eighth', the profile's base.arch is 'sd21'"):
        load_base(BaseSettings(source=str(tmp_path / "b"), arch="sd21"))
    done = run(app, ["base", "check", str(tmp_path / "b"), "--px", "128", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "finite; attention scores never held" in done.output
    done = run(app, ["base", "check", str(tmp_path / "b"), "--px", "130", "--device", "cpu"])
    assert isinstance(done.exception, SettingsError)
    assert "130, this base needs a multiple of 64: try 128" in str(done.exception)
    done = run(app, ["base", "check", str(tmp_path / "nowhere")])
    assert "nowhere': run `dvc pull`" in str(done.exception)
