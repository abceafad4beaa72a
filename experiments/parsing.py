"""Flag values with structure, as text in and checked values out."""

import math
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


def parse_grid(flag: str, parts: Sequence[str]) -> dict[str, list[str]]:
    """`["reg=0.1,0.01", "layers=2,3"]` as `{"reg": ["0.1", "0.01"], "layers": ["2", "3"]}`."""
    grid: dict[str, list[str]] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        values = [value.strip() for value in text.split(",")]
        if not equals or not name or name in grid or not all(values) or len(set(values)) < len(values):
            raise ConfigError(f"--{flag} must be name=value,value,..., each name and value once; found {part!r}")
        grid[name] = values
    return grid


def parse_numbers(flag: str, parts: Sequence[str]) -> list[float]:
    """`["0.1", "1"]` as `[0.1, 1.0]`: different numbers above zero."""
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(value) and value > 0 for value in values) or len(set(values)) < len(values):
        raise ConfigError(f"--{flag} must be different positive numbers, as in --{flag}=0.1,1; got {','.join(parts)!r}")
    return values


def parse_seeds(flag: str, parts: Sequence[str]) -> list[int]:
    """`["0", "1"]` as `[0, 1]`: different integers from 0 on."""
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--{flag} must be different integers, as in --{flag}=0,1,2; got {','.join(parts)!r}")
    return [int(part) for part in parts]
