"""Flag values with structure, as text in and checked values out."""

from collections.abc import Sequence

from isolator_jax.config import ConfigError


def parse_hparams(text: str) -> dict[str, str]:
    """`"reg=0.01,dim=64"` as `{"reg": "0.01", "dim": "64"}`."""
    values: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--hparams must be name=value,name=value; found {part!r}")
        if name in values:
            raise ConfigError(f"--hparams names {name} twice")
        values[name] = value.strip()
    return values


def parse_widths(flag: str, parts: Sequence[str]) -> dict[str, int]:
    """`["image:64", "text:32"]` as `{"image": 64, "text": 32}`: modalities and feature widths."""
    widths: dict[str, int] = {}
    for part in parts:
        name, _, width = part.partition(":")
        if not name.isidentifier() or not width.isdecimal() or int(width) < 1 or name in widths:
            raise ConfigError(f"--{flag} must be name:width,name:width, each name once; found {part!r}")
        widths[name] = int(width)
    return widths


def parse_list_lengths(flag: str, parts: Sequence[str]) -> list[int]:
    """`["10", "20"]` as `[10, 20]`."""
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"--{flag} must be positive integers, as in --{flag}=10,20; got {','.join(parts)!r}")
    return [int(part) for part in parts]
