"""The model files as they are published: where each lies, what it weighs, under which licence, and what needs it.

Local names are those of MuseTalk's own `models/` folder, so an existing download is used as it stands; voices have a folder of their own in it.
Sizes and SHA-256 sums are those that the hubs give for the revisions named here; None where none was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Purposes = tuple[Literal["v15", "v1", "restore", "taesd", "voices"], ...]
PURPOSES: dict[str, str] = {
    "v15": "MuseTalk 1.5, the default",
    "v1": "MuseTalk 1.0",
    "restore": "sharper faces with GFPGAN, optional",
    "taesd": "the small, faster and less exact decoder, optional",
    "voices": "natural voices for Korean and thirty other languages, optional",
}

CARD_CONFLICT = (
    "MIT by its README, which allows any purpose, also commercial; the model card's metadata say creativeml-openrail-m, which forbids some uses. "
    "The two contradict each other: decide which one binds you before you publish what it makes"
)
NO_LICENCE = "not stated by its authors (code MIT); trained on CelebAMask-HQ, a data set for non-commercial research"


@dataclass(frozen=True)
class Variant:
    """A model under one local name and in one format. None = not known."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    name: path below the folder, and what commands and errors call it. source: "hf:<repository>@<revision>" or "https://...".
    remote: path in the repository; empty for a URL. needed_for: what does not work without it. optional: fetched along, and never missed.
    variants: accepted where they lie, and not downloaded.
    mirrors: other sources of the same bytes, tried in turn when the first one fails.
    """

    name: str
    source: str
    remote: str
    bytes: int | None
    sha256: str | None
    licence: str
    needed_for: Purposes
    description: str
    variants: tuple[Variant, ...] = ()
    optional: bool = False
    mirrors: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[Variant, ...]:
        """The file as published, and its variants."""
        return Variant(self.name, self.bytes, self.sha256), *self.variants

    @property
    def url(self) -> str:
        """Address of the file for a browser."""
        if not self.source.startswith("hf:"):
            return self.source
        repository, _, revision = self.source.removeprefix("hf:").partition("@")
        return f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{self.remote}"


_MUSETALK = "hf:TMElyralab/MuseTalk@2bcb936e2fddb4d86db4c62fd45b387d0c061571"
_VAE = "hf:stabilityai/sd-vae-ft-mse@31f26fdeee1355a5c34592e401dd41e45d25a493"
_WHISPER = "hf:openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af"
_DWPOSE = "hf:yzd-v/DWPose@1a7144101628d69ee7a3768d1ee3a094070dc388"
_PARSER = "hf:ManyOtherFunctions/face-parse-bisent@0073b233a5a3c4b1377d4dbf49245017938a72b5"
_MIRRORS = ("https://drive.usercontent.google.com/download?id=154JgKpzCPW82qINcVieuPH3fZ2e0P812&export=download&confirm=t",)
_TINY = "hf:madebyollin/taesd@614f76814bbe30edbe2e627ace1c2234c81a2c0e"
_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth"
_BOTH: Purposes = ("v15", "v1")
_SUPERTONIC = "hf:Supertone/supertonic-3@724fb5abbf5502583fb520898d45929e62f02c0b"
_ARCHIVES = ("hf:supertone-oss-archive/supertonic-3", "hf:OpenVoiceOS/phoonnx-supertonic")
RAIL = (
    "BigScience Open RAIL-M (code MIT): any purpose, also commercial, but those of its attachment A; among them to impersonate somebody, "
    "to let a machine alone decide about people's rights, and to pass on what it makes without saying that a machine made it"
)

# Bytes and SHA-256.
_Sums = tuple["int | None", "str | None"]
_UNKNOWN = (None, None)
_UNET_SUM = (3_400_074_924, "7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007")
_UNET_JSON_SUM = (748, "5b6923aee04d71692e0e9846c471e0a4ea07a4f686d39545e472bd4ba17e1b47")
_VAE_SUM = (334_707_217, "1b4889b6b1d4ce7ae320a02dedaeff1780ad77d415ea0d744b476155c6377ddc")
_VAE_SAFETENSORS_SUM = (334_643_276, "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815")
_VAE_JSON_SUM = (None, "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e")
_WHISPER_SUM = (151_095_027, "9607f98a2b22d9e229ae43c52ecea79dcede9e0c5cfae67e8da6eda86d8aac1d")
_WHISPER_PT_SUM = (75_572_083, "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9")
_WHISPER_JSON_SUM = (None, "ffdccec4f3211f4c63310f2b7098f309fe70f3952cedc5e4d11e43f5b2379b98")
_DWPOSE_SUM = (134_399_116, "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843")
_PARSER_SUM = (53_289_463, "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567")
_TAESD_SUM = (9_793_292, "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549")
_GFPGAN_SUM = (348_632_874, "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad")

_VAES = (
    Variant("sd-vae-ft-mse/diffusion_pytorch_model.bin", *_VAE_SUM),
    Variant("sd-vae/diffusion_pytorch_model.safetensors", *_VAE_SAFETENSORS_SUM),
    Variant("sd-vae-ft-mse/diffusion_pytorch_model.safetensors", *_VAE_SAFETENSORS_SUM),
)
_WHISPERS = (Variant("whisper/tiny.pt", *_WHISPER_PT_SUM), Variant("whisper/model.safetensors"))
_VAE_JSONS = (Variant("sd-vae-ft-mse/config.json"),)
_GFPGANS = (Variant("gfpgan/weights/GFPGANv1.4.pth", *_GFPGAN_SUM),)


def _hub(source: str, name: str, sums: _Sums, licence: str, purposes: Purposes, what: str, **more: Any) -> WeightFile:
    """A file that its repository has by the last part of the local name; MuseTalk's has it by the whole."""
    remote = name if source == _MUSETALK else name.rpartition("/")[2]
    return WeightFile(name, source, remote, *sums, licence, purposes, what, **more)


_UNET, _UNET_JSON = "UNet, 849,947,844 parameters", "what the UNet looks like"
_AUTOENCODER, _VAE_JSON = "VAE, 83,653,863 parameters", "what the VAE looks like"
_ENCODER, _ENCODER_JSON = "Whisper tiny; its encoder is used", "what Whisper looks like"
_BISENET, _TAESD, _RESTORER = "BiSeNet face parser", "TAESD, encoder and decoder", "GFPGAN 1.4 face restoration"
_WHISPER_TERMS = "Apache-2.0 by its card, MIT by OpenAI's repository"
_GFPGAN_TERMS = "Apache-2.0; its licence file names parts of others under non-commercial terms"


def _voice(path: str, size: int, sha256: str, what: str, **more: Any) -> WeightFile:
    """A file of Supertonic 3 by its path in the repository."""
    return WeightFile(f"{SUPERTONIC}/{path}", _SUPERTONIC, path, size, sha256, RAIL, ("voices",), what, mirrors=_ARCHIVES, **more)


SUPERTONIC = "supertonic-3"  # its folder
_STYLES = {
    "F1": (292_046, "bbdec6ee00231c2c742ad05483df5334cab3b52fda3ba38e6a07059c4563dbc2"),
    "F2": (292_423, "7c722c6a72707b1a77f035d67f0d1351ba187738e06f7683e8c72b1df3477fc6"),
    "F3": (290_794, "12f6ef2573baa2defa1128069cb59f203e3ab67c92af77b42df8a0e3a2f7c6ab"),
    "F4": (291_808, "c2fa764c1225a76dfc3e2c73e8aa4f70d9ee48793860eb34c295fff01c2e032b"),
    "F5": (291_479, "45966e73316415626cf41a7d1c6f3b4c70dbc1ba2bee5c1978ef0ce33244fc8d"),
    "M1": (291_748, "e35604687f5d23694b8e91593a93eec0e4eca6c0b02bb8ed69139ab2ea6b0a5b"),
    "M2": (292_055, "b76cbf62bac707c710cf0ae5aba5e31eea1a6339a9734bfae33ab98499534a50"),
    "M3": (290_198, "ea1ac35ccb91b0d7ecad533a2fbd0eec10c91513d8951e3b25fbba99954e159b"),
    "M4": (291_522, "ca8eefad4fcd989c9379032ff3e50738adc547eeb5e221b82593a6d7b3bac303"),
    "M5": (291_469, "dd22b92740314321f8ae11c5e87f8dd60d060f15dd3a632b5adf77f471f77af2"),
}
VOICES: tuple[WeightFile, ...] = (
    _voice("onnx/duration_predictor.onnx", 3_700_147, "c3eb91414d5ff8a7a239b7fe9e34e7e2bf8a8140d8375ffb14718b1c639325db", "how long a sentence is"),
    _voice("onnx/text_encoder.onnx", 36_416_150, "c7befd5ea8c3119769e8a6c1486c4edc6a3bc8365c67621c881bbb774b9902ff", "text encoder"),
    _voice(
        "onnx/vector_estimator.onnx", 256_534_781, "883ac868ea0275ef0e991524dc64f16b3c0376efd7c320af6b53f5b780d7c61c", "what makes speech of noise"
    ),
    _voice("onnx/vocoder.onnx", 101_424_195, "085de76dd8e8d5836d6ca66826601f615939218f90e519f70ee8a36ed2a4c4ba", "vocoder"),
    _voice("onnx/tts.json", 8_253, "42078d3aef1cd43ab43021f3c54f47d2d75ceb4e75f627f118890128b06a0d09", "what the networks look like"),
    _voice("onnx/unicode_indexer.json", 277_676, "9bf7346e43883a81f8645c81224f786d43c5b57f3641f6e7671a7d6c493cb24f", "numbers of the letters"),
    *(_voice(f"voice_styles/{name}.json", *sums, f"the voice supertonic-{name.lower()}") for name, sums in _STYLES.items()),
    _voice("LICENSE", 15_007, "0d944a9110fed9a9602d60e0423a272903e7bd21ab060490774efc77c2275e9f", "the licence's text", optional=True),
)
FILES: tuple[WeightFile, ...] = (
    _hub(_MUSETALK, "musetalkV15/unet.pth", _UNET_SUM, CARD_CONFLICT, ("v15",), _UNET),
    _hub(_MUSETALK, "musetalkV15/musetalk.json", _UNET_JSON_SUM, CARD_CONFLICT, ("v15",), _UNET_JSON, optional=True),
    _hub(_MUSETALK, "musetalk/pytorch_model.bin", _UNKNOWN, CARD_CONFLICT, ("v1",), _UNET),
    _hub(_MUSETALK, "musetalk/musetalk.json", _UNKNOWN, CARD_CONFLICT, ("v1",), _UNET_JSON, optional=True),
    _hub(_VAE, "sd-vae/diffusion_pytorch_model.bin", _VAE_SUM, "MIT", _BOTH, _AUTOENCODER, variants=_VAES),
    _hub(_VAE, "sd-vae/config.json", _VAE_JSON_SUM, "MIT", _BOTH, _VAE_JSON, variants=_VAE_JSONS, optional=True),
    _hub(_WHISPER, "whisper/pytorch_model.bin", _WHISPER_SUM, _WHISPER_TERMS, _BOTH, _ENCODER, variants=_WHISPERS),
    _hub(_WHISPER, "whisper/config.json", _WHISPER_JSON_SUM, "Apache-2.0", _BOTH, _ENCODER_JSON, optional=True),
    _hub(_DWPOSE, "dwpose/dw-ll_ucoco_384.onnx", _DWPOSE_SUM, "Apache-2.0", _BOTH, "DWPose, whole-body landmarks"),
    _hub(_PARSER, "face-parse-bisent/79999_iter.pth", _PARSER_SUM, NO_LICENCE, _BOTH, _BISENET, mirrors=_MIRRORS),
    _hub(_TINY, "taesd/diffusion_pytorch_model.safetensors", _TAESD_SUM, "MIT", ("taesd",), _TAESD),
    WeightFile("GFPGANv1.4.pth", _GFPGAN, "", *_GFPGAN_SUM, _GFPGAN_TERMS, ("restore",), _RESTORER, _GFPGANS),
    *VOICES,
)

BY_NAME = {file.name: file for file in FILES}


def files_for(purpose: str) -> tuple[WeightFile, ...]:
    """The files of one purpose, or of all ("all"). Raises KeyError for another word."""
    if purpose == "all":
        return FILES
    if purpose not in PURPOSES:
        raise KeyError(f"{purpose!r} is none of {', '.join(PURPOSES)}, all")
    return tuple(file for file in FILES if purpose in file.needed_for)


def published_name(path: Path) -> str | None:
    """The published name of a file by the end of its path, whichever accepted name that is; None when it is none."""
    for file in FILES:
        for variant in file.accepted:
            name = Path(variant.name).parts
            if path.parts[-len(name) :] == name:
                return file.name
    return None
