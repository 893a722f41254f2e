"""Words of LLVM that the compiled loops share: addresses, masks, and loads and stores of some lanes of a vector."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

BYTE, SHORT, INT, LONG, NONE = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.VoidType()
AT = BYTE.as_pointer()


def address(context: Any, b: Any, signature: Any, args: Any, k: int) -> Any:
    """Of the byte that argument k + 1 counts in the array that is argument k."""
    data = context.make_array(signature.args[k])(context, b, args[k]).data
    return b.gep(b.bitcast(data, AT), [args[k + 1]])


def mask(b: Any, count: Any, lanes: int) -> Any:
    """Which of the lanes are among the first ``count``."""
    zero, one = ir.Constant(LONG, 0), ir.Constant(LONG, 1)
    bits = b.sub(b.shl(one, b.select(b.icmp_signed(">", count, zero), count, zero)), one)
    bits = b.select(b.icmp_signed("<", count, ir.Constant(LONG, 64)), bits, ir.Constant(LONG, -1))
    whole = ir.IntType(lanes)
    return b.bitcast(bits if lanes == 64 else b.trunc(bits, whole), ir.VectorType(ir.IntType(1), lanes))


def splat(b: Any, value: Any, kind: Any) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    one = b.insert_element(nothing, value, ir.Constant(INT, 0))
    return b.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(INT, kind.count), [0] * kind.count))


def _masked(b: Any, act: str, kind: Any, result: Any, args: list[Any]) -> Any:
    """LLVM's masked load or store of a vector; no byte of the lanes outside the mask is touched."""
    name = f"llvm.masked.{act}.v{kind.count}{kind.element}.p0v{kind.count}{kind.element}"
    found = b.module.globals.get(name)
    return b.call(found or ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name), args)


def load(b: Any, at: Any, mask: Any, kind: Any) -> Any:
    """The lanes of the mask, 0 elsewhere."""
    at = b.bitcast(at, kind.as_pointer())
    return _masked(b, "load", kind, kind, [at, ir.Constant(INT, 1), mask, ir.Constant(kind, [0] * kind.count)])


def store(b: Any, value: Any, at: Any, mask: Any) -> None:
    at = b.bitcast(at, value.type.as_pointer())
    _masked(b, "store", value.type, NONE, [value, at, ir.Constant(INT, 1), mask])
