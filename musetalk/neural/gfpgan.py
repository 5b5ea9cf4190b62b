"""What GFPGANv1.4.pth holds: 285 tensors under `params_ema`, of the "clean" architecture for 512x512 faces with channel multiplier 2.

Source: GFPGAN repository (Apache-2.0), gfpgan/archs/gfpganv1_clean_arch.py and stylegan2_clean_arch.py; names and shapes only.
"""

from __future__ import annotations

Shape = tuple[int, ...]

STYLE = 512
# Channels at each side in pixels; the generator has twice as many.
ENCODER_WIDTH = {4: 256, 8: 256, 16: 256, 32: 256, 64: 256, 128: 128, 256: 64, 512: 32}
SIDES = tuple(ENCODER_WIDTH)


def tensor_shapes() -> dict[str, Shape]:
    return {**_encoder(), **{f"stylegan_decoder.{name}": shape for name, shape in _generator().items()}}


def _encoder() -> dict[str, Shape]:
    """The network that degrades and takes the face apart, and what it tells the generator at each side."""
    shapes = _conv("conv_body_first", 3, ENCODER_WIDTH[512], 1)
    down = [ENCODER_WIDTH[side] for side in reversed(SIDES)]
    up = [ENCODER_WIDTH[side] for side in SIDES]
    for n in range(len(SIDES) - 1):
        shapes |= _residual(f"conv_body_down.{n}", down[n], down[n + 1])
        shapes |= _residual(f"conv_body_up.{n}", up[n], up[n + 1])
        shapes |= _conv(f"toRGB.{n}", up[n + 1], 3, 1)
        for told in ("condition_scale", "condition_shift"):
            shapes |= _conv(f"{told}.{n}.0", up[n + 1], up[n + 1], 3) | _conv(f"{told}.{n}.2", up[n + 1], up[n + 1], 3)
    n_styles = 2 * len(SIDES)
    return shapes | _conv("final_conv", down[-1], ENCODER_WIDTH[4], 3) | _linear("final_linear", ENCODER_WIDTH[4] * 16, n_styles * STYLE)


def _generator() -> dict[str, Shape]:
    """StyleGAN2 without its own up- and downsampling kernels."""
    width = [2 * ENCODER_WIDTH[side] for side in SIDES]
    shapes: dict[str, Shape] = {"constant_input.weight": (1, width[0], 4, 4)}
    for n in range(8):
        shapes |= _linear(f"style_mlp.{2 * n + 1}", STYLE, STYLE)
    shapes |= _styled("style_conv1", width[0], width[0], 3) | _styled("to_rgb1", width[0], 3, 1)
    for n in range(len(SIDES) - 1):
        shapes |= _styled(f"style_convs.{2 * n}", width[n], width[n + 1], 3)
        shapes |= _styled(f"style_convs.{2 * n + 1}", width[n + 1], width[n + 1], 3)
        shapes |= _styled(f"to_rgbs.{n}", width[n + 1], 3, 1)
    for layer in range(2 * len(SIDES) - 1):
        side = SIDES[(layer + 1) // 2]
        shapes[f"noises.noise{layer}"] = (1, 1, side, side)
    return shapes


def _conv(name: str, c_in: int, c_out: int, kernel: int) -> dict[str, Shape]:
    return {f"{name}.weight": (c_out, c_in, kernel, kernel), f"{name}.bias": (c_out,)}


def _linear(name: str, c_in: int, c_out: int) -> dict[str, Shape]:
    return {f"{name}.weight": (c_out, c_in), f"{name}.bias": (c_out,)}


def _residual(name: str, c_in: int, c_out: int) -> dict[str, Shape]:
    return {**_conv(f"{name}.conv1", c_in, c_in, 3), **_conv(f"{name}.conv2", c_in, c_out, 3), f"{name}.skip.weight": (c_out, c_in, 1, 1)}


def _styled(name: str, c_in: int, c_out: int, kernel: int) -> dict[str, Shape]:
    modulated = f"{name}.modulated_conv"
    shapes: dict[str, Shape] = {f"{modulated}.weight": (1, c_out, c_in, kernel, kernel), f"{name}.bias": (1, c_out, 1, 1)}
    shapes |= _linear(f"{modulated}.modulation", STYLE, c_in)
    return shapes if kernel == 1 else {**shapes, f"{name}.weight": (1,)}
