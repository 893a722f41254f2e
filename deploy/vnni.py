"""Exact products of uint8 spikes and int8 weights, by the instruction that multiplies and adds 64 of them at once.

``vpdpbusd`` (AVX-512 VNNI) adds to each of 16 int32 sums the four products of four unsigned and four signed bytes; it
never saturates, so the result is the integer product as long as the sums fit 32 bits, which ``quantnet.verify`` checks.
A *tile* keeps rows x outputs of sums in registers while it walks the inputs. Where the CPU lacks the instruction,
``AVAILABLE`` is False and the same sums are added one by one.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, int32, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from snnergy.deploy.kernels import compiled, put

_compiler: Any = config
_native = not (_compiler.DISABLE_JIT or _compiler.CPU_NAME or _compiler.CPU_FEATURES)
FEATURES: dict[str, bool] = dict(llvm.get_host_cpu_features()) if _native else {}
"""Of this CPU; none where numba does not compile, or was told to compile for another."""
AVAILABLE = bool(FEATURES.get("avx512vnni") and FEATURES.get("avx512f"))
if AVAILABLE:
    llvm.initialize_native_asmparser()

BLOCK = 240
"""Rows of a dense product that share one reading of a panel of weights."""
LANE = 16
_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_INT, LANE)
HEIGHTS = {1: (16, 8, 4, 1), 2: (14, 8, 4, 1), 4: (6, 4, 2, 1)}
"""Lanes of 16 outputs -> rows of the tiles, largest first: all sums and weights fit the 32 registers."""


def _tile(rows: int, lanes: int) -> Any:
    """``tile(x, at, stride, offsets, groups, w, first, out, to, width)``, compiled in place.

    out[to + r * width ...] = sum over segments s and groups k of x[at + r * stride + offsets[s] + 4 k ..] w[first ..]
    """

    @intrinsic
    def tile(_typing: Any, x: Any, at: Any, stride: Any, offsets: Any, groups: Any, w: Any, first: Any, out: Any,
             to: Any, width: Any) -> Any:  # fmt: skip
        signature = types.void(
            x, types.intp, types.intp, offsets, types.intp, w, types.intp, out, types.intp, types.intp
        )

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            def data(k: int, element: Any) -> Any:
                array = context.make_array(signature.args[k])(context, b, args[k])
                return b.bitcast(array.data, element.as_pointer()), array

            def load(pointer: Any, kind: Any) -> Any:
                value = b.load(b.bitcast(pointer, kind.as_pointer()))
                value.align = 1
                return value

            spikes, weights, sums = b.gep(data(0, _BYTE)[0], [args[1]]), data(5, _BYTE)[0], data(7, _INT)[0]
            places, array = data(3, _LONG)
            segments = b.extract_value(array.shape, 0)
            splat, nothing = ir.Constant(ir.VectorType(_INT, LANE), [0] * LANE), ir.Constant(_SUMS, ir.Undefined)
            multiply = ir.InlineAsm(ir.FunctionType(_SUMS, [_SUMS] * 3), "vpdpbusd $3, $2, $0", "=v,0,v,v")
            before = b.block
            outer, inner, after, done = (b.append_basic_block(n) for n in ("segment", "group", "next", "done"))
            b.branch(outer)

            b.position_at_end(outer)
            s, w_at = b.phi(_LONG), b.phi(_LONG)
            start = [[b.phi(_SUMS) for _ in range(lanes)] for _ in range(rows)]
            base = b.gep(spikes, [b.load(b.gep(places, [s]))])
            b.branch(inner)

            b.position_at_end(inner)
            k, w_now = b.phi(_LONG), b.phi(_LONG)
            total = [[b.phi(_SUMS) for _ in range(lanes)] for _ in range(rows)]
            row_weights = [
                load(b.gep(weights, [b.add(w_now, ir.Constant(_LONG, 4 * LANE * lane))]), _SUMS)
                for lane in range(lanes)
            ]
            added: list[list[Any]] = []
            for r in range(rows):
                place = b.add(b.mul(args[2], ir.Constant(_LONG, r)), b.mul(k, ir.Constant(_LONG, 4)))
                four = b.insert_element(nothing, load(b.gep(base, [place]), _INT), ir.Constant(_INT, 0))
                four = b.shuffle_vector(four, nothing, splat)
                added.append([b.call(multiply, [total[r][lane], four, row_weights[lane]]) for lane in range(lanes)])
            k_next = b.add(k, ir.Constant(_LONG, 1))
            w_next = b.add(w_now, ir.Constant(_LONG, 4 * LANE * lanes))
            b.cbranch(b.icmp_signed("<", k_next, args[4]), inner, after)

            b.position_at_end(after)
            s_next = b.add(s, ir.Constant(_LONG, 1))
            b.cbranch(b.icmp_signed("<", s_next, segments), outer, done)

            zero, none = ir.Constant(_LONG, 0), ir.Constant(_SUMS, [0] * LANE)
            for phi, first_value, next_value in ((s, zero, s_next), (w_at, args[6], w_next)):
                phi.add_incoming(first_value, before)
                phi.add_incoming(next_value, after)
            for phi, first_value, next_value in ((k, zero, k_next), (w_now, w_at, w_next)):
                phi.add_incoming(first_value, outer)
                phi.add_incoming(next_value, inner)
            for r in range(rows):
                for lane in range(lanes):
                    start[r][lane].add_incoming(none, before)
                    start[r][lane].add_incoming(added[r][lane], after)
                    total[r][lane].add_incoming(start[r][lane], outer)
                    total[r][lane].add_incoming(added[r][lane], inner)

            b.position_at_end(done)
            for r in range(rows):
                for lane in range(lanes):
                    place = b.add(
                        b.add(args[8], ir.Constant(_LONG, LANE * lane)), b.mul(args[9], ir.Constant(_LONG, r))
                    )
                    b.store(added[r][lane], b.bitcast(b.gep(sums, [place]), _SUMS.as_pointer())).align = 1
            return context.get_dummy_value()

        return signature, generate

    return tile


def _strip(lanes: int) -> Any:
    """``strip(x, at, stride, rows, height, ...)``: any number of rows by tiles of about that height.

    The last tile overlaps the one before where the rows do not divide: it writes the same sums again.
    """
    heights = HEIGHTS[lanes]
    first, second, third, _ = heights
    tall, high, low, one = (_tile(height, lanes) for height in heights)

    @njit(nogil=True, inline="never")
    def strip(x, at, stride, rows, height, offsets, groups, w, begin, out, to, width):  # type: ignore[no-untyped-def]
        height = min(height, rows)
        height = first if height >= first else second if height >= second else third if height >= third else 1
        r = 0
        while r < rows:
            r = min(r, rows - height)
            x_at, out_at = at + r * stride, to + r * width
            if height == first:
                tall(x, x_at, stride, offsets, groups, w, begin, out, out_at, width)
            elif height == second:
                high(x, x_at, stride, offsets, groups, w, begin, out, out_at, width)
            elif height == third:
                low(x, x_at, stride, offsets, groups, w, begin, out, out_at, width)
            else:
                one(x, x_at, stride, offsets, groups, w, begin, out, out_at, width)
            r += height

    return strip


def height(rows: int, lanes: int) -> int:
    """The height of tiles that computes the fewest rows twice, the tallest of those."""
    return min((h for h in HEIGHTS[lanes] if h <= rows), key=lambda h: (-(-rows // h) * h * (1 + 0.5 / h), -h))


def _plain(x: Any, at: int, stride: int, rows: int, height: int, offsets: Any, groups: int, w: Any, lanes: int,
           out: Any) -> None:  # fmt: skip
    """``product`` without the instruction. height is of the tiles and is not looked at."""
    flat, width = x.reshape(-1), LANE * lanes
    for r in range(rows):
        for panel in range(w.shape[0]):
            sums = out[r, panel * width : (panel + 1) * width]
            sums[:] = 0
            for s in range(offsets.shape[0]):
                for k in range(groups):
                    four = at + r * stride + offsets[s] + 4 * k
                    for n in range(width):
                        for i in range(4):
                            value = int32(int32(flat[four + i]) * int32(w[panel, s * groups + k, n, i]))
                            sums[n] = int32(sums[n] + value)


plain = compiled(_plain)

if AVAILABLE:
    _one, _two, _four = _strip(1), _strip(2), _strip(4)

    @compiled
    def product(x, at, stride, rows, height, offsets, groups, w, lanes, out):  # type: ignore[no-untyped-def]
        """out[0:rows] = the sums of ``rows`` rows that start at x[at] and are ``stride`` bytes apart.

        x: uint8, contiguous; offsets: int64[segments], where each run of 4 x groups inputs of a row lies
        w: int8[panels, segments * groups, 16 * lanes, 4] of ``pack``; out: int32[>= rows, 16 * lanes * panels]
        """
        flat, width = out.reshape(-1), out.shape[1]
        for panel in range(w.shape[0]):
            first, to = panel * w[0].size, panel * LANE * lanes
            if lanes == 1:
                _one(x, at, stride, rows, height, offsets, groups, w, first, flat, to, width)
            elif lanes == 2:
                _two(x, at, stride, rows, height, offsets, groups, w, first, flat, to, width)
            else:
                _four(x, at, stride, rows, height, offsets, groups, w, first, flat, to, width)

else:
    product = plain


@compiled
def dense(x, groups, w, lanes, exponent, fresh, current):  # type: ignore[no-untyped-def]
    """current (+)= x times w, times 2**exponent. x: uint8[rows, inputs]; current: int32[rows, outputs]"""
    rows, inputs = x.shape
    offsets, width = np.zeros(1, np.int64), LANE * lanes
    sums = np.empty((BLOCK, width), np.int32)
    beyond = -inputs % 4  # a tile reads four inputs at once, and must not read past the memory of the last rows
    tail = min(rows, -(-beyond // inputs))
    whole = rows - tail
    for r in range(0, whole, BLOCK):
        height = min(BLOCK, whole - r)
        for panel in range(w.shape[0]):
            product(x, r * inputs, inputs, height, height, offsets, groups, w[panel : panel + 1], lanes, sums)
            first = panel * width
            for k in range(height):
                put(sums[k], exponent, fresh, current[r + k, first : first + width])
    if tail:
        last = np.zeros(tail * inputs + beyond, np.uint8)
        last[: tail * inputs] = x[whole:].reshape(-1)
        for panel in range(w.shape[0]):
            product(last, 0, inputs, tail, tail, offsets, groups, w[panel : panel + 1], lanes, sums)
            first = panel * width
            for k in range(tail):
                put(sums[k], exponent, fresh, current[whole + k, first : first + width])


@compiled
def conv(x, geometry, height, offsets, groups, w, lanes, exponent, fresh, current):  # type: ignore[no-untyped-def]
    """current (+)= the convolution of every row of x.

    geometry: c_in, h, w, h_out, w_out, stride y x, padding y x, inputs and outputs of a group
    offsets:  of the runs of inputs under a kernel, in the padded image; w: one ``pack`` a group, stacked
    """
    c_in, h, width, h_out, w_out, sy, sx, py, px, per_group, each = geometry
    wide = width + 2 * px
    image = np.zeros((h + 2 * py) * wide * c_in + 4, np.uint8)
    sums = np.empty((w_out, LANE * lanes * w.shape[1]), np.int32)
    channels = each * w.shape[0]
    bare = fresh and exponent == 0 and channels == sums.shape[1]
    for r in range(x.shape[0]):
        for y in range(h):
            to = ((y + py) * wide + px) * c_in
            image[to : to + width * c_in] = x[r, y * width * c_in : (y + 1) * width * c_in]
        for y in range(h_out):
            for g in range(w.shape[0]):
                at = y * sy * wide * c_in + g * per_group
                if bare:
                    first = y * w_out * channels
                    place = current[r, first : first + w_out * channels].reshape(w_out, channels)
                    product(image, at, sx * c_in, w_out, height, offsets, groups, w[g], lanes, place)
                    continue
                product(image, at, sx * c_in, w_out, height, offsets, groups, w[g], lanes, sums)
                if channels == sums.shape[1]:
                    first = y * w_out * channels
                    put(sums.reshape(-1), exponent, fresh, current[r, first : first + w_out * channels])
                    continue
                for z in range(w_out):
                    first = (y * w_out + z) * channels + g * each
                    put(sums[z], exponent, fresh, current[r, first : first + each])


def pack(weight: NDArray[Any]) -> tuple[NDArray[np.int8], int, int]:
    """The weights in the order the tiles read them, lanes of a panel, and groups of a segment.

    weight: int8[outputs, segments, inputs of a segment]; returns int8[panels, segments * groups, 16 * lanes, 4]
    """
    n, segments, length = weight.shape
    lanes = 1 if n <= LANE else 2 if n <= 2 * LANE else 4
    width, groups = LANE * lanes, -(-length // 4)
    panels = -(-n // width)
    padded = np.zeros((panels * width, segments, groups * 4), np.int8)
    padded[:n, :, :length] = weight
    order = padded.reshape(panels, width, segments * groups, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(order), lanes, groups
