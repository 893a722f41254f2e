"""``kernels.advance`` by vectors: one step of 64 neurons at once, in the instructions that fit the chip's arithmetic.

What a state keeps of itself, ``trunc(x * keep / 4096)``, takes six instructions on 16 neurons: with x = 4096 high + low
it is ``high * keep + (low * keep + (4095 where x < 0, else 0) >> 12)``, and ``vpdpwssd`` (AVX-512 VNNI) multiplies 16
bits by 16 and adds to 32 at once: high, low and keep are of 13 bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, njit, types

from snnergy.deploy import vectors, vnni
from snnergy.deploy.kernels import WRAP
from snnergy.deploy.vectors import BYTE, INT, LONG, SHORT

AVAILABLE = vnni.AVAILABLE and bool(vnni.FEATURES.get("avx512bw"))
WIDTH = 64
"""Neurons of a turn: the spikes of four vectors fill one line of the cache."""
_LANES = 16
_VECTOR = ir.VectorType(INT, _LANES)
intrinsic: Any = extending.intrinsic


def _same(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * _LANES)


def _joined(b: Any, parts: list[Any]) -> Any:
    """One mask of two."""
    count = parts[0].type.count
    return b.shuffle_vector(*parts, ir.Constant(ir.VectorType(INT, 2 * count), list(range(2 * count))))


def _where(b: Any, mask: Any, value: int, element: Any) -> Any:
    """The value in the lanes of the mask, 0 in the others."""
    kind = ir.VectorType(element, mask.type.count)
    return b.select(mask, ir.Constant(kind, [value] * kind.count), ir.Constant(kind, [0] * kind.count))


def _kept(b: Any, x: Any, keep: Any) -> Any:
    """trunc(x * keep / 4096)"""
    add = ir.InlineAsm(ir.FunctionType(_VECTOR, [_VECTOR] * 3), "vpdpwssd $3, $2, $0", "=v,0,v,v")
    high, low = b.ashr(x, _same(12)), b.and_(x, _same(4095))
    return b.call(add, [b.lshr(b.call(add, [b.lshr(high, _same(20)), low, keep]), _same(12)), high, keep])


def _turn(cuba: bool, whole: bool) -> Any:
    """``turn(i, n, ...)``, the rest as in ``kernels.advance``: its neurons i .. i + 63, or to the end.

    whole: there are that many, and no lane need be masked
    """

    @intrinsic
    def turn(_typing: Any, i: Any, n: Any, current: Any, out: Any, at: Any, counts: Any, of: Any, u: Any, v: Any,
             own: Any, keep_u: Any, keep_v: Any, ceiling: Any, bias: Any, back: Any, first: Any,
             subtract: Any, shift: Any, anew: Any) -> Any:  # fmt: skip
        begins = {
            2: 4,
            3: 4,
            5: 6,
            7: 9,
            8: 9,
            10: 15,
            11: 15,
            12: 15,
            13: 15,
            14: 15,
        }  # array -> where its neuron 0 stands

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            left = b.sub(args[1], args[0])
            data = {k: context.make_array(signature.args[k])(context, b, args[k]).data for k in begins}
            starts = {k: b.gep(data[k], [b.add(args[0], args[begin])]) for k, begin in begins.items()}
            left_shift = vectors.splat(b, b.trunc(args[17], INT), _VECTOR)
            taken = vectors.splat(b, b.sext(args[16], INT), _VECTOR)  # all bits where a spike takes away

            def place(k: int, lane: int) -> Any:
                return b.gep(starts[k], [ir.Constant(LONG, lane)])

            def some(lane: int, lanes: int) -> Any:
                """Which of these lanes are neurons."""
                if whole:
                    return ir.Constant(ir.VectorType(ir.IntType(1), lanes), [1] * lanes)
                return vectors.mask(b, b.sub(left, ir.Constant(LONG, lane)), lanes)

            fired: list[Any] = []
            busy: list[Any] = []
            for lane in range(0, WIDTH, _LANES):
                mask = some(lane, _LANES)

                def read(k: int, lane: int = lane, mask: Any = mask) -> Any:
                    return vectors.load(b, place(k, lane), mask, _VECTOR)

                c = b.shl(read(2), left_shift)
                if cuba:
                    c = b.add(c, _kept(b, read(7), read(10)))
                c = b.sub(b.and_(b.add(c, _same(WRAP - 1)), _same(2 * WRAP - 1)), _same(WRAP - 1))
                vectors.store(b, c, place(7, lane), mask)
                add = read(13)
                y = b.add(b.add(_kept(b, read(8), read(11)), c), add)
                y = b.select(b.icmp_signed(">", y, _same(WRAP - 1)), _same(WRAP - 1), y)
                y = b.select(b.icmp_signed("<", y, _same(1 - WRAP)), _same(1 - WRAP), y)
                fires = b.and_(b.icmp_signed(">", y, read(12)), mask)
                after = read(14)
                after = b.add(b.and_(y, taken), b.sub(b.xor(after, taken), taken))  # y - after, or after
                vectors.store(b, b.select(fires, after, y), place(8, lane), mask)
                fired.append(fires)
                busy.append(b.icmp_signed("!=", b.or_(c, add), _same(0)))
            pairs = [_joined(b, fired[:2]), _joined(b, fired[2:])]
            active = [_joined(b, busy[:2]), _joined(b, busy[2:])]
            vectors.store(b, _where(b, _joined(b, pairs), 1, BYTE), place(3, 0), some(0, WIDTH))
            kind = ir.VectorType(SHORT, 32)
            for k in range(2):
                mask = some(32 * k, 32)
                before = vectors.load(b, place(5, 32 * k), mask, kind)
                before = b.select(args[18], ir.Constant(kind, [0] * 32), before)
                more = b.or_(_where(b, pairs[k], 1, SHORT), _where(b, active[k], 256, SHORT))
                vectors.store(b, b.add(before, more), place(5, 32 * k), mask)
            return context.get_dummy_value()

        types_ = (
            types.intp, types.intp, current, out, types.intp, counts, types.intp, u, v, types.intp, keep_u, keep_v,
            ceiling, bias, back, types.intp, types.boolean, types.intp, types.boolean,
        )  # fmt: skip
        return types.void(*types_), generate

    return turn


def _advance(
    n: int, current: Any, out: Any, at: int, counts: Any, of: int, u: Any, v: Any, own: int, keep_u: Any, keep_v: Any,
    ceiling: Any, bias: Any, back: Any, first: int, cuba: bool, subtract: bool, shift: int, anew: bool,
) -> None:  # fmt: skip
    whole = n // 64 * 64
    if cuba:
        for i in range(0, whole, 64):
            _remember(
                i, n, current, out, at, counts, of, u, v, own, keep_u, keep_v, ceiling, bias, back, first, subtract,
                shift, anew,
            )  # fmt: skip
        if whole < n:
            _remember_some(
                whole, n, current, out, at, counts, of, u, v, own, keep_u, keep_v, ceiling, bias, back, first, subtract,
                shift, anew,
            )  # fmt: skip
    else:
        for i in range(0, whole, 64):
            _forget(
                i, n, current, out, at, counts, of, u, v, own, keep_u, keep_v, ceiling, bias, back, first, subtract,
                shift, anew,
            )  # fmt: skip
        if whole < n:
            _forget_some(
                whole, n, current, out, at, counts, of, u, v, own, keep_u, keep_v, ceiling, bias, back, first, subtract,
                shift, anew,
            )  # fmt: skip


_remember, _remember_some = _turn(True, True), _turn(True, False)
_forget, _forget_some = _turn(False, True), _turn(False, False)
advance = njit(nogil=True, inline="always")(_advance)
