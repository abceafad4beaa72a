"""The text of a compiled program, read for what a profile says of its instructions."""

import math
import re
from typing import NamedTuple

_BYTES = {"pred": 1, "s4": 1, "u4": 1, "bf16": 2, "c64": 8, "c128": 16}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:, (.*))?$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_LOCATION = re.compile(r"^(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)")
_FRAME = re.compile(r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")
_NAME = re.compile(r'^(\d+) "(.*)"$')
_PACKAGE = "isolator_jax/"


class Instruction(NamedTuple):
    """One instruction of a compiled program.

    Attributes:
      opcode: as the compiler names it: `fusion`, `custom-call`, `while`.
      shape: of its result.
      bytes: of its result and operands, each once.
      flops: of the dense products in it.
      operation: JAX's name of its root operation, `dot_general`; empty where the compiler made it.
      direction: `forward`, `backward`, or empty outside of a derivative.
      place: the innermost function of the package that it comes from, `losses.py _info_nce_parts`.
    """

    opcode: str
    shape: str
    bytes: int
    flops: float
    operation: str
    direction: str
    place: str


def instructions(text: str) -> dict[str, Instruction]:
    """Every instruction of a program by its name.

    Args:
      text: `compiled.as_text()`.
    """
    places, bodies, found = _places(text), _products(text), {}
    lines = [match for match in map(_INSTRUCTION.match, text.splitlines()) if match]
    shapes = {match[1]: match[2] for match in lines}
    for name, shape, opcode, operands, rest in (match.groups() for match in lines):
        rest = rest or ""
        read = set(re.findall(r"%([\w.-]+)", operands))
        called = re.search(r"calls=%?([\w.-]+)", rest)
        scope = _first(r'op_name="([^"]*)"', rest)
        found[name] = Instruction(
            opcode=opcode,
            shape=re.sub(r"\{[^}]*\}", "", shape),
            bytes=_bytes(shape) + sum(_bytes(shapes.get(operand, "")) for operand in read),
            flops=bodies.get(called[1], 0.0) if called else _flops(opcode, shape, shapes, operands, rest),
            operation=scope.rpartition("/")[2],
            direction="backward" if "transpose(" in scope else "forward" if "jvp(" in scope else "",
            place=places.get(_first(r"stack_frame_id=(\d+)", rest), ""),
        )
    return found


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _bytes(shape: str) -> int:
    return sum(
        math.prod(map(int, filter(None, sizes.split(",")))) * _BYTES.get(kind, int(_first(r"(\d+)", kind) or 8) // 8)
        for kind, sizes in _ARRAY.findall(shape)
    )


def _flops(opcode: str, shape: str, shapes: dict[str, str], operands: str, rest: str) -> float:
    if opcode != "dot":
        return 0.0
    (_, out), (_, left) = _ARRAY.findall(shape)[0], _ARRAY.findall(shapes[re.findall(r"%([\w.-]+)", operands)[0]])[0]
    contracted = [int(axis) for axis in _first(r"lhs_contracting_dims=\{([\d,]*)\}", rest).split(",") if axis]
    sizes = [int(size) for size in left.split(",")]
    return 2.0 * math.prod(int(size) for size in out.split(",") if size) * math.prod(sizes[axis] for axis in contracted)


def _products(text: str) -> dict[str, float]:
    """Floating-point operations of the dense products in each computation."""
    totals: dict[str, float] = {}
    shapes: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            current, shapes = start[1], {}
        elif match := _INSTRUCTION.match(line):
            name, shape, opcode, operands, rest = match.groups()
            shapes[name] = shape
            totals[current] = totals.get(current, 0.0) + _flops(opcode, shape, shapes, operands, rest or "")
    return totals


def _places(text: str) -> dict[str, str]:
    """Innermost function of the package for each stack frame by its number; of any code where none is."""
    section = ""
    parts: dict[str, dict[str, tuple]] = {
        name: {} for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    }
    patterns = {"FileNames": _NAME, "FunctionNames": _NAME, "FileLocations": _LOCATION, "StackFrames": _FRAME}
    for line in text.splitlines():
        if line in parts:
            section = line
        elif not line:
            section = ""
        elif section and (match := patterns[section].match(line)):
            parts[section][match[1]] = match.groups()[1:]
    files, functions, locations, frames = parts.values()

    def place(frame: str) -> str:
        innermost, above = "", None
        while frame in frames and frame != above:
            location, parent = frames[frame]
            file, function, _ = locations[location]
            name = f"{files[file][0].rpartition('/')[2]} {functions[function][0].replace('<locals>.', '')}"
            if _PACKAGE in files[file][0]:
                return name
            innermost = innermost or name
            frame, above = parent or "", frame
        return innermost

    return {frame: place(frame) for frame in frames}
