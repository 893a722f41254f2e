"""The products of ``vnni`` on CPUs whose unit multiplies tiles: 16 rows x 64 inputs x 16 outputs an instruction.

``tdpbusd`` (AMX) adds to 16 x 16 int32 sums the products of unsigned and signed bytes, and never saturates. A tile is
16 lines of 64 bytes, and one that lies across lines of the cache is seven times slower to load, so spikes are copied
to lines of their own. The kernel must let a process use the tiles; where it does not, or where ``vnni.FEATURES`` lacks
them, ``AVAILABLE`` is False and nothing here may run.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import extending, int32, types
from numpy.typing import NDArray

from snnergy.deploy import vnni
from snnergy.deploy.kernels import compiled

ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18
"""Linux on x86-64: the system call, ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA."""


def _permitted() -> bool:
    """Ask the kernel for the tiles, for all threads of this process."""
    call = ctypes.CDLL(None).syscall
    return call(*(ctypes.c_long(n) for n in (ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA))) == 0


AVAILABLE = (
    sys.platform == "linux"
    and all(vnni.FEATURES.get(name) for name in ("amx-tile", "amx-int8", "avx512f", "avx512bw"))
    and _permitted()
)
if AVAILABLE:
    llvm.initialize_native_asmparser()

SIDE = 32
"""Rows and outputs of a block of 2 x 2 tiles of sums: each tile that is loaded is used twice."""
LINE = 64
"""Bytes of a line: inputs of a step."""
CACHED = 1 << 20
"""Weights up to this many bytes stay in the second-level cache and are read again for every block of rows."""
ROWS = 256
"""Rows that share one reading of larger weights."""
_CONFIG = np.zeros(LINE, np.uint8)
_CONFIG[0] = 1  # the palette
_CONFIG[16:32:2] = LINE  # bytes a line of each of 8 tiles
_CONFIG[48:56] = 16  # lines
_BLOCK = """
    tilezero %tmm0
    tilezero %tmm1
    tilezero %tmm2
    tilezero %tmm3
1:  tileloadd ($0, $6), %tmm4
    tileloadd ($2, $5), %tmm6
    tdpbusd %tmm6, %tmm4, %tmm0
    tileloadd 1024($2, $5), %tmm7
    tdpbusd %tmm7, %tmm4, %tmm1
    tileloadd ($1, $6), %tmm5
    tdpbusd %tmm6, %tmm5, %tmm2
    tdpbusd %tmm7, %tmm5, %tmm3
    add $$64, $0
    add $$64, $1
    add $$2048, $2
    dec $3
    jnz 1b
    tilestored %tmm0, ($4, $7)
    tilestored %tmm1, 64($4, $7)
    tilestored %tmm2, 2048($4, $7)
    tilestored %tmm3, 2112($4, $7)
"""
_TILES = "~{memory},~{flags}," + ",".join(f"~{{tmm{k}}}" for k in range(8))
_BYTE, _INT, _LONG, _NONE = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.VoidType()
_AT = _BYTE.as_pointer()
intrinsic: Any = extending.intrinsic


def _address(context: Any, b: Any, signature: Any, args: Any, k: int) -> Any:
    """Of the byte that argument k + 1 counts in the array that is argument k."""
    data = context.make_array(signature.args[k])(context, b, args[k]).data
    return b.gep(b.bitcast(data, _AT), [args[k + 1]])


def _mask(b: Any, count: Any, lanes: int) -> Any:
    """Which of the lanes are among the first ``count``."""
    zero, one = ir.Constant(_LONG, 0), ir.Constant(_LONG, 1)
    bits = b.sub(b.shl(one, b.select(b.icmp_signed(">", count, zero), count, zero)), one)
    bits = b.select(b.icmp_signed("<", count, ir.Constant(_LONG, 64)), bits, ir.Constant(_LONG, -1))
    whole = ir.IntType(lanes)
    return b.bitcast(bits if lanes == 64 else b.trunc(bits, whole), ir.VectorType(ir.IntType(1), lanes))


def _splat(b: Any, value: Any, kind: Any) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    one = b.insert_element(nothing, value, ir.Constant(_INT, 0))
    return b.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count))


def _masked(b: Any, act: str, kind: Any, result: Any, args: list[Any]) -> Any:
    """LLVM's masked load or store of a vector; no byte of the lanes outside the mask is touched."""
    name = f"llvm.masked.{act}.v{kind.count}{kind.element}.p0v{kind.count}{kind.element}"
    found = b.module.globals.get(name)
    return b.call(found or ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name), args)


def _load(b: Any, at: Any, mask: Any, kind: Any) -> Any:
    """The lanes of the mask, 0 elsewhere."""
    at = b.bitcast(at, kind.as_pointer())
    return _masked(b, "load", kind, kind, [at, ir.Constant(_INT, 1), mask, ir.Constant(kind, [0] * kind.count)])


def _store(b: Any, value: Any, at: Any, mask: Any) -> None:
    at = b.bitcast(at, value.type.as_pointer())
    _masked(b, "store", value.type, _NONE, [value, at, ir.Constant(_INT, 1), mask])


@intrinsic
def _open(_typing: Any, shape: Any, at: Any) -> Any:
    """The tiles of this thread, of the shape of _CONFIG."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        load = ir.InlineAsm(ir.FunctionType(_NONE, [_AT]), "ldtilecfg ($0)", "r,~{memory}", side_effect=True)
        b.call(load, [_address(context, b, signature, args, 0)])
        return context.get_dummy_value()

    return types.void(shape, types.intp), generate


@intrinsic
def _close(_typing: Any) -> Any:
    """The thread holds no tiles any more, and the kernel need not save them."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        b.call(ir.InlineAsm(ir.FunctionType(_NONE, []), "tilerelease", _TILES, side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _copy(_typing: Any, x: Any, at: Any, lines: Any, to: Any, count: Any) -> Any:
    """The first ``count`` bytes at x[at] to lines[to], at most 64, and zeros behind them up to 64."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(_BYTE, LINE)
        bytes_ = _load(b, _address(context, b, signature, args, 0), _mask(b, args[4], LINE), kind)
        b.store(bytes_, b.bitcast(_address(context, b, signature, args, 2), kind.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(x, types.intp, lines, types.intp, types.intp), generate


@intrinsic
def _multiply(_typing: Any, lines: Any, at: Any, w: Any, first: Any, sums: Any, to: Any, steps: Any) -> Any:
    """sums[32, 32] = 32 rows of lines[rows, steps, 64] times a panel of ``pack``."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        rows, panel, out = (_address(context, b, signature, args, k) for k in (0, 2, 4))
        line, width = ir.Constant(_LONG, LINE), ir.Constant(_LONG, 2 * LINE)
        stride = b.mul(args[6], line)
        lower = b.gep(rows, [b.mul(stride, ir.Constant(_LONG, 16))])
        moved = ir.LiteralStructType([_AT, _AT, _AT, _LONG])
        kind = ir.FunctionType(moved, [_AT, _LONG, _LONG, _LONG, _AT, _AT, _AT, _LONG])
        run = ir.InlineAsm(kind, _BLOCK, "=&r,=&r,=&r,=&r,r,r,r,r,0,1,2,3," + _TILES, side_effect=True)
        b.call(run, [out, line, stride, width, rows, lower, panel, args[6]])
        return context.get_dummy_value()

    return types.void(lines, types.intp, w, types.intp, sums, types.intp, types.intp), generate


@intrinsic
def _settle(_typing: Any, sums: Any, at: Any, current: Any, to: Any, count: Any, left: Any, right: Any,
            fresh: Any) -> Any:  # fmt: skip
    """``kernels.put`` of the first ``count`` of a row's 32 sums, shifted left and then right."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(_INT, 16)
        left, right = (_splat(b, args[k], kind) for k in (5, 6))
        for half in range(2):
            mask = _mask(b, b.sub(args[4], ir.Constant(_LONG, 16 * half)), 16)
            total, place = (
                b.gep(_address(context, b, signature, args, k), [ir.Constant(_LONG, LINE * half)]) for k in (0, 2)
            )
            total = b.load(b.bitcast(total, kind.as_pointer()))
            total.align = LINE
            total = b.ashr(b.shl(total, left), right)
            with b.if_else(args[7]) as (written, added):
                with written:
                    _store(b, total, place, mask)
                with added:
                    _store(b, b.add(total, _load(b, place, mask, kind)), place, mask)
        return context.get_dummy_value()

    shifts = (types.int32, types.int32)
    return types.void(sums, types.intp, current, types.intp, types.intp, *shifts, types.boolean), generate


@compiled
def _aligned(size):  # type: ignore[no-untyped-def]
    memory = np.empty(size + LINE, np.uint8)
    return memory[-memory.ctypes.data % LINE :]


@compiled
def dense(x, w, exponent, fresh, current):  # type: ignore[no-untyped-def]
    """current (+)= x times w, times 2**exponent.

    x: uint8[rows, inputs]; w: of ``pack``; current: int32[rows, outputs]; all contiguous
    """
    (rows, inputs), outputs = x.shape, current.shape[1]
    steps, source, target = w.shape[1], x.reshape(-1), current.reshape(-1)
    left, right = int32(max(exponent, 0)), int32(max(-exponent, 0))
    most = min(SIDE if w.size <= CACHED else ROWS, -(-rows // SIDE) * SIDE)
    lines, sums = _aligned(most * steps * LINE), _aligned(SIDE * 2 * LINE)
    _open(_CONFIG, 0)
    for begin in range(0, rows, most):
        end = min(begin + most, rows)
        for r in range(begin, end):
            for k in range(0, inputs, LINE):
                _copy(source, r * inputs + k, lines, (r - begin) * steps * LINE + k, inputs - k)
        for panel in range(w.shape[0]):
            column = panel * SIDE
            for first in range(begin, end, SIDE):
                _multiply(lines, (first - begin) * steps * LINE, w, panel * w[0].size, sums, 0, steps)
                for r in range(first, min(first + SIDE, end)):
                    at, to = (r - first) * 2 * LINE, 4 * (r * outputs + column)
                    _settle(sums, at, target, to, outputs - column, left, right, fresh)
    _close()


def pack(weight: NDArray[Any]) -> NDArray[np.int8]:
    """int8[outputs, inputs] -> int8[panels of 32 outputs, steps, 2 tiles, 16 lines, 16 outputs, 4 inputs], aligned."""
    outputs, inputs = weight.shape
    panels, steps = -(-outputs // SIDE), -(-inputs // LINE)
    padded = np.zeros((panels * SIDE, steps * LINE), np.int8)
    padded[:outputs, :inputs] = weight
    order = padded.reshape(panels, 2, 16, steps, 16, 4).transpose(0, 3, 1, 4, 2, 5)
    memory = np.empty(padded.size + LINE, np.int8)
    packed = memory[-memory.ctypes.data % LINE :][: padded.size].reshape(order.shape)
    packed[:] = order
    return packed
