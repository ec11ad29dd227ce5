"""Vectors of float32 that compiled loops keep in registers: loaded from a row, computed with lane by lane, stored.

Numba vectorises a simple loop by itself, but not one that sums into a row: such sums would go through memory at each
step. The number of lanes is known when a loop is compiled and may exceed a register's: LLVM divides a vector among
registers as wide as the processor has.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing import templates

from distilscope.lm.kernels.bfloat16 import narrowed, widened
from distilscope.lm.kernels.llvm import FLOAT, INTEGER, SHORT, Typed, instruction, shaped_like

LANES = 16
"""Of a loop over a row of any length: as many float32 as the widest registers (512 bits) hold."""

CACHE_LINE = 64
"""Bytes that come from memory together."""


class Vector(types.Type):
    """Numba's type of a vector of `count` float32."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Vector({count})")


@extending.register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(FLOAT, kind.count))


def _address(context: Any, builder: Any, array: Any, value: Any, start: Any, count: int) -> Any:
    """The address of `count` elements of a contiguous array of one dimension, from `start` on, as that of a vector."""
    place = builder.gep(context.make_array(array)(context, builder, value).data, [start])
    return builder.bitcast(place, ir.VectorType(_element_type(array), count).as_pointer())


def _element_type(array: Any) -> ir.Type:
    return FLOAT if array.dtype == numba.float32 else SHORT


@instruction
def load(_context: Any, array: Any, _start: Any, count: Any) -> Typed:
    """`count` elements of a contiguous array of one dimension, from `start` on."""
    number = count.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        read = builder.load(
            _address(context, builder, kind, values[0], values[1], number), align=kind.dtype.bitwidth // 8
        )
        return read if kind.dtype == numba.float32 else widened(builder, read)

    return Vector(number)(array, numba.int64, count), write


@instruction
def prefetch(_context: Any, array: Any, _start: Any, count: Any) -> Typed:
    """Asks for the memory of `count` elements of a contiguous array of one dimension, soon to be read; nothing waits.

    Into the second-level cache: the first is too small to hold what is worked on and what comes next.
    """
    number = count.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, anything = signature.args[0], ir.IntType(8).as_pointer()
        takes = ir.FunctionType(ir.VoidType(), [anything, *[INTEGER] * 3])
        prefetch = cgutils.get_or_insert_function(builder.module, takes, "llvm.prefetch.p0")
        to_read, into_second_cache, of_data = INTEGER(0), INTEGER(2), INTEGER(1)
        first = builder.bitcast(_address(context, builder, kind, values[0], values[1], number), anything)
        for byte in range(0, number * kind.dtype.bitwidth // 8, CACHE_LINE):
            builder.call(prefetch, [builder.gep(first, [INTEGER(byte)]), to_read, into_second_cache, of_data])
        return context.get_dummy_value()

    return numba.void(array, numba.int64, count), write


@instruction
def store(_context: Any, vector: Any, array: Any, _start: Any) -> Typed:
    """Writes a vector to a contiguous array of one dimension, from `start` on, rounded to its format."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[1]
        kept = values[0] if kind.dtype == numba.float32 else narrowed(builder, values[0])
        builder.store(
            kept, _address(context, builder, kind, values[1], values[2], vector.count), align=kind.dtype.bitwidth // 8
        )
        return context.get_dummy_value()

    return numba.void(vector, array, numba.int64), write


@instruction
def broadcast(_context: Any, _x: Any, count: Any) -> Typed:
    """A vector with the number x in each of `count` lanes."""
    number = count.literal_value
    return Vector(number)(numba.float32, count), lambda _context, builder, _signature, values: _splat(
        builder, values[0], number
    )


@instruction
def swap_halves(_context: Any, vector: Any) -> Typed:
    """The vector with its second half before its first."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        half = vector.count // 2
        order = [*range(half, vector.count), *range(half)]
        return builder.shuffle_vector(values[0], values[0], ir.Constant(ir.VectorType(INTEGER, vector.count), order))

    return vector(vector), write


@instruction
def sum_lanes(_context: Any, vector: Any) -> Typed:
    """The sum of a vector's lanes, in whichever order is fastest (always the same one)."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(FLOAT, [FLOAT, ir.VectorType(FLOAT, vector.count)])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{vector.count}f32")
        return builder.call(reduce, [FLOAT(-0.0), values[0]], fastmath=("reassoc",))

    return numba.float32(vector), write


@instruction
def maximum(_context: Any, one: Any, _other: Any) -> Typed:
    """The larger of two numbers, or lane by lane of two vectors; NaN where one of them is NaN."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        one, other = values
        found = builder.select(builder.fcmp_ordered(">", one, other), one, other)
        return builder.select(builder.fcmp_unordered("uno", one, one), one, found)

    return one(one, one), write


@instruction
def weighted(_context: Any, weight: Any, _value: Any) -> Typed:
    """weight * value, of numbers or lane by lane; 0 where the weight is 0, even if the value is infinite."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        weight, value = values
        nothing = shaped_like(weight, FLOAT, 0.0)
        product = builder.fmul(weight, value)
        return builder.select(builder.fcmp_ordered(">", weight, nothing), product, nothing)

    return weight(weight, weight), write


class _LaneByLane(templates.AbstractTemplate):
    """The type of an operator on two vectors of as many lanes, or on a vector and a number."""

    def generic(self, args: Any, kws: Any) -> Any:
        one, other = args
        if kws or not isinstance(one, Vector) or not (one == other or isinstance(other, types.Float)):
            return None
        return one(one, one if one == other else numba.float32)


def _splat(builder: Any, x: Any, count: int) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(FLOAT, count), ir.Undefined), x, INTEGER(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INTEGER, count), [0] * count))


_declare: Any = templates.infer_global
for _operator, _name in ((operator.mul, "fmul"), (operator.add, "fadd"), (operator.sub, "fsub")):
    _declare(_operator)(type(_name, (_LaneByLane,), {}))

    def _write(_context: Any, builder: Any, signature: Any, values: Any, name: str = _name) -> Any:
        one, other = values
        if other.type == FLOAT:
            other = _splat(builder, other, signature.return_type.count)
        return getattr(builder, name)(one, other, flags=("contract", "reassoc", "nsz"))

    for _other in (Vector, types.Float):
        extending.lower_builtin(_operator, Vector, _other)(_write)
