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

from snnergy.deploy import vectors, vnni
from snnergy.deploy.kernels import compiled
from snnergy.deploy.vectors import AT, BYTE, INT, LONG, NONE

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

TALL, SIDE = 16, 32
"""Most lines of a tile; most rows, and outputs, of a block of 2 x 2 tiles: each one loaded is used twice."""
LINE = 64
"""Bytes of a line: inputs of a step."""
CACHED = 1 << 20
"""Weights up to this many bytes stay in the second-level cache and are read again for every block of rows."""
ROWS = 256
"""Rows that share one reading of larger weights."""
NEAR = 128
"""Rows of at most so many sums are written from the tiles: lines further apart fall on one another's places."""
BAND = 128 << 10
"""Bytes of lines of a convolution: half of them stay in the second-level cache beside the weights."""
_CONFIG = np.zeros(LINE, np.uint8)
_CONFIG[0] = 1  # the palette
_CONFIG[16:32:2] = LINE  # bytes a line of each of 8 tiles
_CONFIG[48:56] = TALL  # lines


def _block(columns: int) -> str:
    """One or two columns of tiles: loops over the steps whose lines begin at ($2)."""
    right = columns == 2
    lines = [
        "tilezero %tmm0", "tilezero %tmm1" * right, "tilezero %tmm2", "tilezero %tmm3" * right,
        "1: mov ($2), $0", "add $4, $0",
        "tileloadd ($0, $6), %tmm4",
        "tileloaddt1 ($1, $7), %tmm6", "tdpbusd %tmm6, %tmm4, %tmm0",
        "tileloaddt1 1024($1, $7), %tmm7" * right, "tdpbusd %tmm7, %tmm4, %tmm1" * right,
        "add $5, $0",
        "tileloadd ($0, $6), %tmm5",
        "tdpbusd %tmm6, %tmm5, %tmm2", "tdpbusd %tmm7, %tmm5, %tmm3" * right,
        "add $$8, $2", "add $$2048, $1", "dec $3", "jnz 1b",
        "tilestored %tmm0, ($8, $10)", "tilestored %tmm1, 64($8, $10)" * right,
        "tilestored %tmm2, ($9, $10)", "tilestored %tmm3, 64($9, $10)" * right,
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


_TILES = "~{memory},~{flags}," + ",".join(f"~{{tmm{k}}}" for k in range(8))
intrinsic: Any = extending.intrinsic


@intrinsic
def _open(_typing: Any, shape: Any, at: Any) -> Any:
    """The tiles of this thread, of a shape like _CONFIG."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        begin = ir.InlineAsm(ir.FunctionType(NONE, [AT]), "ldtilecfg ($0)", "r,~{memory}", side_effect=True)
        b.call(begin, [vectors.address(context, b, signature, args, 0)])
        return context.get_dummy_value()

    return types.void(shape, types.intp), generate


@intrinsic
def _close(_typing: Any) -> Any:
    """The thread holds no tiles any more, and the kernel need not save them."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        b.call(ir.InlineAsm(ir.FunctionType(NONE, []), "tilerelease", _TILES, side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _copy(_typing: Any, x: Any, at: Any, lines: Any, to: Any, count: Any) -> Any:
    """The first ``count`` bytes at x[at] to lines[to], at most 64, and zeros behind them up to 64."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(BYTE, LINE)
        bytes_ = vectors.load(b, vectors.address(context, b, signature, args, 0), vectors.mask(b, args[4], LINE), kind)
        b.store(bytes_, b.bitcast(vectors.address(context, b, signature, args, 2), kind.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(x, types.intp, lines, types.intp, types.intp), generate


def _multiplier(columns: int) -> Any:
    @intrinsic
    def multiply(_typing: Any, lines: Any, at: Any, table: Any, steps: Any, stride: Any, w: Any, first: Any, sums: Any,
                 to: Any, width: Any, height: Any) -> Any:  # fmt: skip
        """sums[2 height, 32 of width] = as many rows of lines, ``stride`` bytes apart, times a panel of ``pack``.

        table: int64[steps], where in a row each 64 inputs begin
        """

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            rows, panel, out = (vectors.address(context, b, signature, args, k) for k in (0, 5, 7))
            places = context.make_array(signature.args[2])(context, b, args[2]).data
            width = b.mul(args[9], ir.Constant(LONG, 4))
            below = b.gep(out, [b.mul(args[10], width)])
            moved = ir.LiteralStructType([AT, AT, AT, LONG])
            kind = ir.FunctionType(moved, [AT, LONG, LONG, LONG, AT, AT, LONG, AT, AT, LONG])
            run = ir.InlineAsm(kind, _block(columns), "=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,1,2,3," + _TILES, side_effect=True)
            line = ir.Constant(LONG, LINE)
            b.call(
                run,
                [
                    rows,
                    b.mul(args[10], args[4]),
                    args[4],
                    line,
                    out,
                    below,
                    width,
                    panel,
                    b.bitcast(places, AT),
                    args[3],
                ],
            )
            return context.get_dummy_value()

        sizes = (types.intp, types.intp)
        signature = types.void(
            lines, types.intp, table, types.intp, types.intp, w, types.intp, sums, types.intp, *sizes
        )
        return signature, generate

    return multiply


_one, _two = _multiplier(1), _multiplier(2)


@intrinsic
def _place(_typing: Any, sums: Any, at: Any, current: Any, to: Any) -> Any:
    """A row's 32 sums, as they are."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(INT, 16)
        for half in range(2):
            total, place = (
                b.bitcast(
                    b.gep(vectors.address(context, b, signature, args, k), [ir.Constant(LONG, LINE * half)]),
                    kind.as_pointer(),
                )
                for k in (0, 2)
            )
            value = b.load(total)
            value.align = LINE
            b.store(value, place).align = 4
        return context.get_dummy_value()

    return types.void(sums, types.intp, current, types.intp), generate


@intrinsic
def _settle(_typing: Any, sums: Any, at: Any, current: Any, to: Any, count: Any, left: Any, right: Any,
            fresh: Any) -> Any:  # fmt: skip
    """``kernels.put`` of the first ``count`` of a row's 32 sums, shifted left and then right."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(INT, 16)
        left, right = (vectors.splat(b, args[k], kind) for k in (5, 6))
        for half in range(2):
            mask = vectors.mask(b, b.sub(args[4], ir.Constant(LONG, 16 * half)), 16)
            total, place = (
                b.gep(vectors.address(context, b, signature, args, k), [ir.Constant(LONG, LINE * half)]) for k in (0, 2)
            )
            total = b.load(b.bitcast(total, kind.as_pointer()))
            total.align = LINE
            total = b.ashr(b.shl(total, left), right)
            with b.if_else(args[7]) as (written, added):
                with written:
                    vectors.store(b, total, place, mask)
                with added:
                    vectors.store(b, b.add(total, vectors.load(b, place, mask, kind)), place, mask)
        return context.get_dummy_value()

    shifts = (types.int32, types.int32)
    return types.void(sums, types.intp, current, types.intp, types.intp, *shifts, types.boolean), generate


@compiled
def _lines(size):  # type: ignore[no-untyped-def]
    memory = np.empty(size + LINE, np.uint8)
    return memory[-memory.ctypes.data % LINE :]


@compiled
def _fill(source, begin, end, inputs, lines, steps):  # type: ignore[no-untyped-def]
    """The inputs of these rows to whole lines, zeros behind them."""
    for r in range(begin, end):
        for k in range(0, inputs, LINE):
            _copy(source, r * inputs + k, lines, ((r - begin) * steps * LINE) + k, inputs - k)


@compiled
def _panels(lines, base, lowest, table, stride, rows, height, w, sums, exponent, fresh, current, to, width):  # type: ignore[no-untyped-def]
    """current[to ...] (+)= ``rows`` rows of lines from ``base`` on times w, times 2**exponent; rows of ``width`` sums.

    lowest: the first row, seen from there, that a block may read
    """
    left, right = int32(max(exponent, 0)), int32(max(-exponent, 0))
    block, steps, size = 2 * height, w.shape[1], w[0].size
    for panel in range(w.shape[0]):
        column = panel * SIDE
        bare = fresh and exponent == 0 and column + SIDE <= width
        for row in range(0, rows, block):
            first = max(lowest, min(row, rows - block))  # the last rows are computed twice where the blocks do not fit
            at = base + first * stride
            if bare and width <= NEAR and first + block <= rows:
                place = 4 * (to + first * width + column)
                _two(lines, at, table, steps, stride, w, panel * size, current, place, width, height)
                continue
            if width - column <= TALL:
                _one(lines, at, table, steps, stride, w, panel * size, sums, 0, SIDE, height)
            else:
                _two(lines, at, table, steps, stride, w, panel * size, sums, 0, SIDE, height)
            for r in range(row, min(row + block, rows)):
                place = 4 * (to + r * width + column)
                if bare:
                    _place(sums, (r - first) * 2 * LINE, current, place)
                else:
                    _settle(sums, (r - first) * 2 * LINE, current, place, width - column, left, right, fresh)


@compiled
def _height(rows):  # type: ignore[no-untyped-def]
    """Of the tiles, so that all blocks are alike and as few rows as can be are computed twice."""
    blocks = max(1, -(-rows // SIDE))
    return max(1, -(-rows // (2 * blocks)))


@compiled
def _shaped(shape, height):  # type: ignore[no-untyped-def]
    """Tiles of so many lines from now on."""
    shape[:LINE] = _CONFIG
    shape[48:54] = height
    _open(shape, 0)


@compiled
def dense(x, w, exponent, fresh, current):  # type: ignore[no-untyped-def]
    """current (+)= x times w, times 2**exponent.

    x: uint8[rows, inputs]; w: of ``pack``; current: int32[rows, outputs]; all contiguous
    """
    (rows, inputs), outputs = x.shape, current.shape[1]
    steps, source, target = w.shape[1], x.reshape(-1), current.reshape(-1)
    height = _height(rows)
    block, stride = 2 * height, steps * LINE
    group = block if w.size <= CACHED else ROWS // block * block
    lined = inputs == stride and x.ctypes.data % LINE == 0 and rows >= block
    lines = source if lined else _lines(group * stride)
    table, sums, shape = np.arange(0, stride, LINE), _lines(block * 2 * LINE), _lines(LINE)
    _shaped(shape, height)
    for begin in range(0, rows, group):
        end = min(begin + group, rows)
        if not lined:
            for r in range(begin, end):
                for k in range(0, inputs, LINE):
                    _copy(source, r * inputs + k, lines, (r - begin) * stride + k, inputs - k)
        base, lowest = (begin * stride, -begin) if lined else (0, 0)
        _panels(lines, base, lowest, table, stride, end - begin, height, w, sums, exponent, fresh, target,
                begin * outputs, outputs)  # fmt: skip
    _close()


@compiled
def conv(x, geometry, w, exponent, fresh, current):  # type: ignore[no-untyped-def]
    """current (+)= the convolution of every row of x, times 2**exponent.

    geometry: c_in, h, w, h_out, w_out, kh, kw, stride y x, padding y x, dilation y; the dilation along x is 1
    w:        of ``pack_conv``

    The inputs under a row of the kernel are a run, and each run of each output gets lines of its own: rows of the input
    that lie a stride apart follow one another, so that all outputs of a band read theirs at one distance.
    """
    c_in, h, width, h_out, w_out, kh, kw, sy, sx, py, px, dy = geometry
    run, channels, target = kw * c_in, current.shape[1] // (h_out * w_out), current.reshape(-1)
    pieces, beyond = -(-run // LINE), (kh - 1) * dy // sy
    band = max(1, min(h_out, BAND // (w_out * pieces * LINE) - beyond))
    plane = (band + beyond) * w_out * LINE
    table = np.empty(kh * pieces, np.int64)
    for k in range(kh):
        for piece in range(pieces):
            table[k * pieces + piece] = (k * dy % sy * pieces + piece) * plane + k * dy // sy * w_out * LINE
    lines = _lines(sy * pieces * plane + SIDE * LINE)
    row, wide = np.zeros((width + 2 * px) * c_in, np.uint8), width * c_in
    sums, shape, before = _lines(SIDE * 2 * LINE), _lines(LINE), 0
    for r in range(x.shape[0]):
        for first in range(0, h_out, band):
            some = min(band, h_out - first)
            for part in range(sy):
                for m in range(some + beyond):
                    y = (first + m) * sy + part - py
                    inside = 0 <= y < h
                    if inside and px > 0:
                        row[px * c_in : px * c_in + wide] = x[r, y * wide : (y + 1) * wide]
                    for piece in range(pieces):
                        to = (part * pieces + piece) * plane + m * w_out * LINE
                        skip = piece * LINE
                        if not inside:
                            lines[to : to + w_out * LINE] = 0
                        elif px > 0:
                            for z in range(w_out):
                                _copy(row, z * sx * c_in + skip, lines, to + z * LINE, run - skip)
                        else:
                            for z in range(w_out):
                                _copy(
                                    x, r * h * wide + y * wide + z * sx * c_in + skip, lines, to + z * LINE, run - skip
                                )
            height = _height(some * w_out)
            if height != before:
                _shaped(shape, height)
                before = height
            to = (r * h_out + first) * w_out * channels
            _panels(lines, 0, 0, table, LINE, some * w_out, height, w, sums, exponent, fresh, target, to, channels)
    _close()


def pack_conv(weight: NDArray[Any]) -> NDArray[np.int8]:
    """int8[c_out, c_in, kh, kw] -> what ``conv`` takes."""
    c_out, c_in, kh, kw = weight.shape
    lines = -(-kw * c_in // LINE) * LINE
    padded = np.zeros((c_out, kh, lines), np.int8)
    padded[:, :, : kw * c_in] = weight.transpose(0, 2, 3, 1).reshape(c_out, kh, kw * c_in)
    return pack(padded.reshape(c_out, kh * lines))


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
