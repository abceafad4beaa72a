"""Flag values with structure, as text in and checked values out."""

import math
from collections.abc import Sequence

from isolator_jax.data.knock_out import KNOCK_OUTS
from isolator_jax.errors import ConfigError, brief
from isolator_jax.evaluation.metrics import UCBIAS_K
from isolator_jax.runs.sampler import Range


def parse_hparams(flag: str, text: str) -> dict[str, str]:
    """`"reg=0.01,dim=64"` as `{"reg": "0.01", "dim": "64"}`."""
    values: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--{flag} must be name=value,name=value; found {brief(repr(part))}")
        if name in values:
            raise ConfigError(f"--{flag} names {brief(name)} twice")
        values[name] = value.strip()
    return values


def parse_widths(flag: str, parts: Sequence[str]) -> dict[str, int]:
    """`["image:64", "text:32"]` as `{"image": 64, "text": 32}`: modalities and feature widths."""
    widths: dict[str, int] = {}
    for part in parts:
        name, _, width = part.partition(":")
        if not name.isidentifier() or not _is_count(width) or name in widths:
            raise ConfigError(f"--{flag} must be name:width,name:width, each name once; found {brief(repr(part))}")
        widths[name] = int(width)
    return widths


def parse_knock_out(flag: str, parts: Sequence[str]) -> dict[str, str]:
    """`["image:shuffle,text:noise"]` as `{"image": "shuffle", "text": "noise"}`: how modalities are knocked out."""
    ways: dict[str, str] = {}
    for part in (part for text in parts for part in text.split(",")):
        name, _, way = part.strip().rpartition(":")
        if not name or way not in KNOCK_OUTS or name in ways:
            raise ConfigError(
                f"--{flag} must be modality:way,modality:way, each modality once, a way being one of "
                f"{', '.join(KNOCK_OUTS)}; found {brief(repr(part))}"
            )
        ways[name] = way
    return ways


def parse_list_lengths(flag: str, parts: Sequence[str]) -> list[int]:
    """`["10", "20"]` as `[10, 20]`."""
    if not parts or not all(map(_is_count, parts)):
        found = brief(repr(",".join(parts)))
        raise ConfigError(f"--{flag} must be positive integers, as in --{flag}=10,20; got {found}")
    return [int(part) for part in parts]


def check_list_length(flag: str, k: int, num_items: int) -> None:
    """Refuses lists longer than the catalogue, beyond those of the default length.

    Raises:
      ConfigError: with the catalogue's size.
    """
    if k > max(num_items, UCBIAS_K):
        raise ConfigError(f"--{flag}={k}: lists cannot be longer than the catalogue, which has {num_items} items")


def parse_grid(flag: str, parts: Sequence[str]) -> dict[str, list[str]]:
    """`["reg=0.1,0.01", "layers=2,3"]` as `{"reg": ["0.1", "0.01"], "layers": ["2", "3"]}`."""
    grid: dict[str, list[str]] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        values = [value.strip() for value in text.split(",")]
        if not equals or not name or name in grid or not all(values) or _repeats(values):
            raise ConfigError(
                f"--{flag} must be name=value,value,..., each name and value once; found {brief(repr(part))}"
            )
        grid[name] = values
    return grid


def parse_space(flag: str, parts: Sequence[str]) -> dict[str, Range]:
    """`["reg=1e-4..1:log,dim=16..128"]` as `{"reg": Range(1e-4, 1, log=True), "dim": Range(16, 128)}`."""
    space: dict[str, Range] = {}
    for part in (part for text in parts for part in text.split(",")):
        name, _, values = part.strip().partition("=")
        bounds, colon, scale = values.partition(":")
        low, _, high = bounds.partition("..")
        try:
            found = Range(float(low), float(high), log=bool(colon))
        except ValueError:
            found = Range(math.nan, math.nan)
        if not name or name in space or scale != "log" * bool(colon) or not _is_range(found):
            raise ConfigError(
                f"--{flag} must be name=low..high or name=low..high:log, each name once, low below high, and above 0 "
                f"with log; found {brief(repr(part))}"
            )
        space[name] = found
    return space


def _is_range(values: Range) -> bool:
    finite = math.isfinite(values.low) and math.isfinite(values.high)
    return finite and values.low < values.high and (values.low > 0 or not values.log)


def parse_tuned(flag: str, parts: Sequence[str]) -> dict[str, dict[str, str]]:
    """`["vbpr:reg=0.5,gamma=1"]` as `{"vbpr": {"reg": "0.5", "gamma": "1"}}`: values of each backbone."""
    tuned: dict[str, dict[str, str]] = {}
    for part in parts:
        backbone, _, values = part.partition(":")
        if not values or backbone in tuned:
            raise ConfigError(
                f"--{flag} must be backbone:name=value,name=value, each backbone once; found {brief(repr(part))}"
            )
        tuned[backbone] = parse_hparams(flag, values)
    return tuned


def parse_numbers(flag: str, parts: Sequence[str]) -> list[float]:
    """`["0.1", "1"]` as `[0.1, 1.0]`: different numbers above zero."""
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(value) and value > 0 for value in values) or len(set(values)) < len(values):
        found = brief(repr(",".join(parts)))
        raise ConfigError(f"--{flag} must be different positive numbers, as in --{flag}=0.1,1; got {found}")
    return values


def parse_seeds(flag: str, parts: Sequence[str]) -> list[int]:
    """`["0", "1"]` as `[0, 1]`: different integers from 0 on."""
    if not parts or not all(map(_is_whole, parts)) or len(set(map(int, parts))) < len(parts):
        found = brief(repr(",".join(parts)))
        raise ConfigError(f"--{flag} must be different integers, as in --{flag}=0,1,2; got {found}")
    return [int(part) for part in parts]


def parse_counts(flag: str, parts: Sequence[str], *, most: int) -> dict[str, int]:
    """`["grcn:2"]` as `{"grcn": 2}`: a whole number of each backbone, from 1 to `most`."""
    counts: dict[str, int] = {}
    for part in parts:
        backbone, _, count = part.partition(":")
        if backbone in counts or not _is_whole(count) or not 1 <= int(count) <= most:
            raise ConfigError(
                f"--{flag} must be backbone:COUNT with COUNT from 1 to {most}, each backbone once; "
                f"found {brief(repr(part))}"
            )
        counts[backbone] = int(count)
    return counts


def _is_whole(text: str) -> bool:
    """Whether it is a non-negative integer, of so few digits that Python reads it and JAX can hold it."""
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _is_count(text: str) -> bool:
    return _is_whole(text) and 1 <= int(text) < 2**31


def _repeats(values: Sequence[str]) -> bool:
    """Whether a value is there twice, `0.1` and `0.10` being one."""

    def number_of(value: str) -> float | str:
        try:
            return float(value)
        except ValueError:
            return value.lower()

    return len(set(map(number_of, values))) < len(values)
