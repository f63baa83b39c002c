"""A small Stable Diffusion in the published layout, random, with its own tokenizer and encoder."""

import json
import shutil
import string
from pathlib import Path

import pytest
import torch

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WIDTH = 16


def write_tokenizer(folder: Path) -> None:
    """Characters, one merge, and SD2.1's special tokens: it pads with the token of number 0."""
    letters = string.ascii_lowercase + string.digits + ",."
    vocabulary = ["!", *letters, *(f"{c}</w>" for c in letters), "ca", "cat</w>", BOS, EOS]
    folder.mkdir()
    numbered = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbered))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")

    def added(content: str) -> dict:
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": content, **flags}

    config = {
        "add_prefix_space": False,
        "bos_token": added(BOS),
        "eos_token": added(EOS),
        "unk_token": added(EOS),
        "pad_token": "!",
        "do_lower_case": True,
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_text_encoder(folder: Path, words: int) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act="gelu",
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(folder)


def write_source(folder: Path) -> None:
    """Everything that SD2.1-base's repository holds of use, at a fraction of its width."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    folder.mkdir()
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.8.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    write_tokenizer(folder / "tokenizer")
    words = len(json.loads((folder / "tokenizer" / "vocab.json").read_text()))
    write_text_encoder(folder / "text_encoder", words)
    AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16),
        attention_head_dim=(2, 4, 4, 4),
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
        use_linear_projection=True,
    ).save_pretrained(folder / "unet")
    PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(str(folder / "scheduler"))


@pytest.fixture(scope="session")
def sd_template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sd") / "stable-diffusion-tiny"
    write_source(folder)
    return folder


@pytest.fixture
def sd_source(sd_template, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sd_template, tmp_path / "stable-diffusion-tiny"))
