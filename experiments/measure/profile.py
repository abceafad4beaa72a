"""Where a training step's time goes: the trace of a few steps, added up by instruction and by place."""

import collections
import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from isolator_jax.runs import Learner

from . import rates
from .hlo import Instruction, instructions

# Enough for a mean, and few enough events for the profiler to keep them all.
_STEPS = 5
# What holds other instructions: its time is theirs.
_CONTAINERS = {"while", "call", "conditional"}
# What the CPU hands to other threads: the trace shows only that it was handed on.
_HANDED_ON = {"dot", "custom-call", "convolution"}

Span = tuple[str, float, float]  # instruction, start and end in seconds


def profile(learner: Learner, seed: int, repeats: int) -> dict[str, Any]:
    """Profiles a step of a learner's epoch.

    Args:
      learner: whose epoch, cut to a few steps, is run.
      seed: of the parameters.
      repeats: timed runs without the profiler.

    Returns:
      `step_seconds` (median, without the profiler), `traced_step_seconds`, of which
      `idle_seconds` are under no instruction; `peak_host_bytes`, `copy_bytes_per_second`,
      `matmul_flops_per_second`;
      `places` and `instructions`: lists by falling time of a step.
    """
    data, (steps, rows) = learner.problem.train, learner.epoch_shape
    steps = min(steps, _STEPS)
    few = dataclasses.replace(data, users=data.users[: steps * rows], items=data.items[: steps * rows])
    state, arguments = learner.initial_state(seed).train, learner.epoch_arguments(few)
    compiled = learner.epoch_program.lower(state, *arguments).compile()

    def train() -> None:
        nonlocal state
        state, *_ = jax.block_until_ready(compiled(state, *arguments))

    seconds = rates.timed(train, repeats).median
    known = {name: found for name, found in instructions(compiled.as_text()).items() if found.opcode not in _CONTAINERS}
    spans = [span for span in _trace(train) if span[0] in known]
    spans = _with_waits(spans, {name for name, instruction in known.items() if instruction.opcode in _HANDED_ON})
    traced, busy = _covered(spans)
    peak = rates.peak_host_bytes()
    ceilings = rates.measure_ceilings(repeats)
    rows_found = _rows(spans, known, steps, ceilings)
    return {
        "steps": steps,
        "batch_rows": rows,
        "step_seconds": seconds / steps,
        "traced_step_seconds": traced / steps,
        "idle_seconds": (traced - busy) / steps,
        "peak_host_bytes": peak,
        "copy_bytes_per_second": ceilings.bytes_per_second,
        "matmul_flops_per_second": ceilings.flops_per_second,
        "places": _by_place(rows_found),
        "instructions": rows_found,
    }


def _trace(run: Any) -> list[Span]:
    """The named spans of the device's work while a function runs; of the host's where it is the device."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
        devices = [plane for plane in planes if plane.name.startswith("/device:") and list(plane.lines)]
        events = [event for plane in devices or planes for line in plane.lines for event in line.events]
        names = [dict(event.stats).get("hlo_op", event.name) if devices else event.name for event in events]
        return [
            (str(name), event.start_ns / 1e9, event.end_ns / 1e9) for name, event in zip(names, events, strict=True)
        ]


def _with_waits(spans: Iterable[Span], handed_on: set[str]) -> list[Span]:
    """Spans of instructions that were handed on, drawn out over the time in which nothing else runs after them."""
    drawn: list[Span] = []
    last = 0.0
    for name, start, end in sorted(spans, key=lambda span: span[1]):
        if drawn and start > last and drawn[-1][0] in handed_on:
            drawn[-1] = (*drawn[-1][:2], start)
        drawn.append((name, start, end))
        last = max(last, end)
    return drawn


def _covered(spans: Iterable[Span]) -> tuple[float, float]:
    """Seconds from the first start to the last end, and those of them under at least one span."""
    spans = sorted(spans, key=lambda span: span[1])
    if not spans:
        return 0.0, 0.0
    covered, last = 0.0, spans[0][1]
    for _, start, end in spans:
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return last - spans[0][1], covered


def _rows(
    spans: Iterable[Span], known: dict[str, Instruction], steps: int, ceilings: rates.Ceilings
) -> list[dict[str, Any]]:
    """A row for each instruction that ran, by falling time; seconds, bytes and operations are of a step."""
    seconds: dict[str, float] = collections.defaultdict(float)
    calls: collections.Counter[str] = collections.Counter()
    for name, start, end in spans:
        seconds[name] += end - start
        calls[name] += 1
    total, rows = sum(seconds.values()), []
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        instruction, times = known[name], calls[name] / steps
        moved, done = instruction.bytes * times, instruction.flops * times
        rows.append(
            {
                "name": name,
                **{part: getattr(instruction, part) for part in ("place", "operation", "direction", "shape")},
                "calls": times,
                "seconds": spent / steps,
                "share": spent / total,
                "bytes": moved,
                "flops": done,
                "floor_seconds": max(moved / ceilings.bytes_per_second, done / ceilings.flops_per_second),
            }
        )
    return rows


def _by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows added up by place and direction, by falling time."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["place"] or "(the compiler's own)", row["direction"]
        of_place = sums.setdefault(key, {"place": key[0], "direction": key[1], "instructions": 0})
        of_place["instructions"] += 1
        for name in ("seconds", "share", "bytes", "flops", "floor_seconds"):
            of_place[name] = of_place.get(name, 0.0) + row[name]
    return sorted(sums.values(), key=lambda of_place: -of_place["seconds"])
