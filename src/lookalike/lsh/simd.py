"""Machine instructions that Numba does not offer: table look-up by bytes, popcount, half floats.

The one that matters is ``score_block``: it scores 32 codes at once by looking up every nibble of
every code in a table of 16 bytes, the way of "fast scan" product quantisation (Andre et al. 2015),
here applied to hyperplane codes. On x86 with AVX2 that is vpshufb, on 64-bit ARM tbl; elsewhere a
plain loop gives the same numbers. Half floats take F16C on x86, elsewhere integer arithmetic.

What a processor has is what Numba compiles for, which NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may
lower: an instruction beyond that ends the process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as _untyped_cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled

BLOCK = 32
"""Codes that are scored together; byte ``lane(i) = 2 (i % 16) + i // 16`` belongs to code i."""
SCORES = 4096
"""Scores are whole numbers from 0 to SCORES - 1."""
CORRECTION_ONE = 32767
"""A correction of 1 in fixed point."""

cgutils: Any = _untyped_cgutils
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
FLOAT = ir.FloatType()
FLOATS16 = ir.VectorType(FLOAT, 16)
LONGS8 = ir.VectorType(I64, 8)
BYTES32, BYTES16 = ir.VectorType(I8, 32), ir.VectorType(I8, 16)
WORDS16, LONGS16 = ir.VectorType(I16, 16), ir.VectorType(I32, 16)


def _instructions() -> tuple[str, bool]:
    """The table instruction ("avx2", "neon" or ""), and whether there is one for half floats."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = features.split(",")
    if triple.startswith("x86_64"):
        return "avx2" if "+avx2" in enabled else "", "+f16c" in enabled
    arm = triple.startswith(("aarch64", "arm64"))
    return "neon" if arm else "", arm


SHUFFLE, HALVES = _instructions()
"""Which table instruction is used ("": the portable loop), and whether LLVM converts half floats
(without an instruction it would call a function that Numba does not link)."""


def _all(element: ir.Type, count: int, value: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(element, count), [value] * count)


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _load(builder: Any, pointer: Any, vector: Any) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)


def _look_up(builder: Any, table: Any, nibbles: Any) -> Any:
    """table <16 x i8>, nibbles <32 x i8> of 0..15 -> <32 x i8>."""
    if SHUFFLE == "avx2":
        twice = ir.Constant(ir.VectorType(I32, 32), list(range(16)) * 2)
        both = builder.shuffle_vector(table, ir.Constant(BYTES16, ir.Undefined), twice)
        kind = ir.FunctionType(BYTES32, [BYTES32, BYTES32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pshuf.b")
        return builder.call(function, [both, nibbles])
    kind = ir.FunctionType(BYTES16, [BYTES16, BYTES16])
    name = "llvm.aarch64.neon.tbl1.v16i8"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    halves = []
    for start in (0, 16):
        pick = ir.Constant(ir.VectorType(I32, 16), list(range(start, start + 16)))
        half = builder.shuffle_vector(nibbles, ir.Constant(BYTES32, ir.Undefined), pick)
        halves.append(builder.call(function, [table, half]))
    joined = ir.Constant(ir.VectorType(I32, 32), list(range(32)))
    return builder.shuffle_vector(halves[0], halves[1], joined)


def _high_half_of_product(builder: Any, a: Any, b: Any) -> Any:
    """(a * b) >> 16 of <16 x i16>. LLVM recognises vpmulhw in the general form only sometimes."""
    if SHUFFLE == "avx2":
        kind = ir.FunctionType(WORDS16, [WORDS16, WORDS16])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmulh.w")
        return builder.call(function, [a, b])
    product = builder.mul(builder.sext(a, LONGS16), builder.sext(b, LONGS16))
    return builder.trunc(builder.ashr(product, _all(I32, 16, 16)), WORDS16)


def _declare_score_block(
    _context: Any,
    codes: Any,
    _code_at: Any,
    table: Any,
    _code_bytes: Any,
    corrections: Any,
    additions: Any,
    _correction_at: Any,
    _query: Any,
    _threshold: Any,
    out: Any,
) -> Any:
    query = types.UniTuple(types.int16, 3)  # type: ignore[no-untyped-call]
    signature = types.uint32(
        *(codes, types.int64, table, types.int64, corrections, additions, types.int64),
        *(query, types.int16, out),
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codes, code_at, table, code_bytes, corrections, additions, at_item = args[:7]
        query, threshold, out = args[7:]
        offset, gain, base = (builder.extract_value(query, i) for i in range(3))
        kinds = signature.args
        code = builder.gep(_data(context, builder, kinds[0], codes), [code_at])
        entries = _data(context, builder, kinds[2], table)
        factors = builder.gep(_data(context, builder, kinds[4], corrections), [at_item])
        terms = builder.gep(_data(context, builder, kinds[5], additions), [at_item])
        result = _data(context, builder, kinds[9], out)
        sums = [cgutils.alloca_once(builder, WORDS16) for _ in range(2)]
        for each in sums:
            builder.store(_all(I16, 16, 0), each)
        low, byte, eight = _all(I8, 32, 15), _all(I16, 16, 255), _all(I16, 16, 8)
        start, step = ir.Constant(I64, 0), ir.Constant(I64, 2)
        with cgutils.for_range_slice(builder, start, code_bytes, step, I64) as (row, _):
            total = None
            for j in range(2):  # two bytes of every code: four look-ups of at most 63 fit a byte
                at = builder.shl(builder.add(row, ir.Constant(I64, j)), ir.Constant(I64, 5))
                both = _load(builder, builder.gep(code, [at]), BYTES32)
                high = builder.lshr(builder.bitcast(both, WORDS16), _all(I16, 16, 4))
                nibbles = builder.and_(both, low), builder.and_(builder.bitcast(high, BYTES32), low)
                for k, nibble in enumerate(nibbles):
                    where = builder.gep(entries, [builder.add(at, ir.Constant(I64, 16 * k))])
                    found = _look_up(builder, _load(builder, where, BYTES16), nibble)
                    total = found if total is None else builder.add(total, found)
            wide = builder.bitcast(total, WORDS16)
            builder.store(builder.add(builder.load(sums[0]), builder.and_(wide, byte)), sums[0])
            builder.store(builder.add(builder.load(sums[1]), builder.lshr(wide, eight)), sums[1])

        def spread(value: Any) -> Any:
            undefined = ir.Constant(WORDS16, ir.Undefined)
            one = builder.insert_element(undefined, value, ir.Constant(I32, 0))
            return builder.shuffle_vector(one, undefined, _all(I32, 16, 0))

        mask = None
        for half in range(2):
            signed = builder.sub(builder.load(sums[half]), spread(offset))
            doubled = builder.shl(signed, _all(I16, 16, 1))
            factor = _load(builder, builder.gep(factors, [ir.Constant(I64, 16 * half)]), WORDS16)
            scaled = _high_half_of_product(builder, doubled, factor)
            term = _load(builder, builder.gep(terms, [ir.Constant(I64, 16 * half)]), WORDS16)
            doubled = builder.shl(term, _all(I16, 16, 1))
            added = _high_half_of_product(builder, doubled, spread(gain))
            score = builder.add(builder.add(scaled, added), spread(base))
            zero = _all(I16, 16, 0)
            score = builder.select(builder.icmp_signed(">", score, zero), score, zero)
            where = builder.gep(result, [ir.Constant(I64, 16 * half)])
            builder.store(score, builder.bitcast(where, WORDS16.as_pointer()), align=2)
            reached = builder.icmp_signed(">=", score, spread(threshold))
            bits = builder.zext(builder.bitcast(reached, I16), I32)
            if mask is not None:
                bits = builder.or_(mask, builder.shl(bits, ir.Constant(I32, 16)))
            mask = bits
        return mask

    return signature, generate


def _declare_popcount(_context: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


def _declare_trailing_zeros(_context: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.zext(builder.cttz(args[0], ir.Constant(I1, 0)), I64)

    return types.int64(types.uint32), generate


def _declare_prefetch(_context: Any, array: Any, _index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _data(context, builder, signature.args[0], args[0])
        pointer = builder.bitcast(builder.gep(data, [args[1]]), I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        flags = [ir.Constant(I32, value) for value in (0, 3, 1)]  # read, keep, data
        builder.call(function, [pointer, *flags])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _declare_mix(_context: Any, values: Any, _at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        mixed = _load(builder, place, FLOATS16)
        for step in (1, 2, 4, 8):
            order = ir.Constant(LONGS16, [lane ^ step for lane in range(16)])
            others = builder.shuffle_vector(mixed, ir.Constant(FLOATS16, ir.Undefined), order)
            signs = ir.Constant(FLOATS16, [-1.0 if lane & step else 1.0 for lane in range(16)])
            own = builder.fmul(mixed, signs, flags=("contract",))
            mixed = builder.fadd(own, others, flags=("contract",))
        builder.store(mixed, builder.bitcast(place, FLOATS16.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64), generate


def _declare_add_and_subtract(_context: Any, values: Any, _one: Any, _other: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _data(context, builder, signature.args[0], args[0])
        places = [builder.gep(data, [at]) for at in args[1:]]
        one, other = (_load(builder, place, FLOATS16) for place in places)
        results = builder.fadd(one, other), builder.fsub(one, other)
        for result, place in zip(results, places, strict=True):
            builder.store(result, builder.bitcast(place, FLOATS16.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64), generate


def _declare_merge(
    _context: Any, fresh: Any, _count: Any, pool: Any, _first: Any, _length: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        new, entries = (_data(context, builder, signature.args[i], args[i]) for i in (0, 2))

        def picked(vector: Any, lanes: list[int]) -> Any:
            order = ir.Constant(ir.VectorType(I32, 8), lanes)
            return builder.shuffle_vector(vector, ir.Constant(LONGS8, ir.Undefined), order)

        def both(one: Any, other: Any) -> tuple[Any, Any]:
            """The greater and the lesser of each lane."""
            is_greater = builder.icmp_signed(">", one, other)
            return builder.select(is_greater, one, other), builder.select(is_greater, other, one)

        def exchanged(vector: Any, step: int, run: int) -> Any:
            """Lanes ``step`` apart in order, falling in every second run."""
            high, low = both(vector, picked(vector, [lane ^ step for lane in range(8)]))
            falls = [((lane & run) == 0) == ((lane & step) == 0) for lane in range(8)]
            return builder.select(ir.Constant(ir.VectorType(I1, 8), falls), high, low)

        zero, eight = ir.Constant(I64, 0), ir.Constant(I64, 8)
        carried = cgutils.alloca_once(builder, LONGS8)
        with cgutils.for_range_slice(builder, zero, args[1], eight, I64) as (some, _):
            carry = _load(builder, builder.gep(new, [some]), LONGS8)
            for run in (2, 4, 8):
                step = run // 2
                while step:
                    carry = exchanged(carry, step, run)
                    step //= 2
            builder.store(carry, carried)
            with cgutils.for_range_slice(builder, args[3], args[4], eight, I64) as (at, _):
                place = builder.bitcast(builder.gep(entries, [at]), LONGS8.as_pointer())
                risen = picked(builder.load(carried), list(range(7, -1, -1)))
                high, low = both(builder.load(place, align=8), risen)
                for step in (4, 2, 1):
                    high, low = exchanged(high, step, 8), exchanged(low, step, 8)
                builder.store(high, place, align=8)
                builder.store(low, carried)
        return context.get_dummy_value()

    return types.void(fresh, types.int64, pool, types.int64, types.int64), generate


def _declare_unmarked(_context: Any, entries: Any, _at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        marks = builder.trunc(_load(builder, place, LONGS8), ir.VectorType(I1, 8))
        return builder.zext(builder.bitcast(builder.not_(marks), I8), I32)

    return types.uint32(entries, types.int64), generate


def _declare_as_float(_context: Any, value: Any) -> Any:
    def from_half(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), FLOAT)

    def unchanged(_context: Any, _builder: Any, _signature: Any, args: Any) -> Any:
        return args[0]

    def from_bits(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], FLOAT)

    if value is types.uint16:
        return types.float32(types.uint16), from_half if HALVES else half_to_float
    if isinstance(value, types.Integer):
        return types.float32(types.uint32), from_bits
    return types.float32(types.float32), unchanged


def _declare_as_half(_context: Any, _value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), I16)

    return types.uint16(types.float32), generate if HALVES else float_to_half


def half_to_float(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    """The bits of a float16 -> float32, by shifting them into place.

    A float32 of these bits is 2^-112 times the value, also where the float16 is subnormal; the
    exponent that stands for infinity and NaN is set apart.
    """
    bits = builder.zext(args[0], I32)
    sign = builder.shl(builder.and_(bits, I32(0x8000)), I32(16))
    shifted = builder.shl(builder.and_(bits, I32(0x7FFF)), I32(13))
    scaled = builder.fmul(builder.bitcast(shifted, FLOAT), FLOAT(2.0**112))
    special = builder.icmp_unsigned(">=", shifted, I32(0x1F << 23))
    infinite = builder.or_(shifted, I32(0xFF << 23))
    size = builder.select(special, infinite, builder.bitcast(scaled, I32))
    return builder.bitcast(builder.or_(size, sign), FLOAT)


def float_to_half(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    """A float32 -> the bits of the nearest float16, ties to even, as NumPy and F16C round.

    Below the smallest normal float16, adding 0.5 lets the processor round at the right bit; above,
    half of the last place less one, and one more if that place is odd, is added to the bits.
    """
    bits = builder.bitcast(args[0], I32)
    sign = builder.and_(builder.lshr(bits, I32(16)), I32(0x8000))
    size = builder.and_(bits, I32(0x7FFFFFFF))
    half = FLOAT(0.5)
    small = builder.bitcast(builder.fadd(builder.bitcast(size, FLOAT), half), I32)
    small = builder.sub(small, builder.bitcast(half, I32))
    odd = builder.and_(builder.lshr(size, I32(13)), I32(1))
    rounded = builder.add(builder.add(size, I32(0xFFF)), odd)
    normal = builder.lshr(builder.sub(rounded, I32(112 << 23)), I32(13))
    nan = builder.icmp_unsigned(">", size, I32(0xFF << 23))
    large = builder.select(nan, I32(0x7E00), I32(0x7C00))
    is_large = builder.icmp_unsigned(">=", size, I32((127 + 16) << 23))
    is_small = builder.icmp_unsigned("<", size, I32((127 - 14) << 23))
    result = builder.select(is_small, small, builder.select(is_large, large, normal))
    return builder.trunc(builder.or_(result, sign), I16)


popcount: Any = intrinsic(_declare_popcount)
trailing_zeros: Any = intrinsic(_declare_trailing_zeros)
# A hint that array.ravel()[index] will be read soon.
prefetch: Any = intrinsic(_declare_prefetch)
# The Hadamard transform of 16 float32 from an index on, in place.
_mix: Any = intrinsic(_declare_mix)
# Replaces 16 float32 from each of two indices on by their sums and differences.
_add_and_subtract: Any = intrinsic(_declare_add_and_subtract)
# Sorts each eight of the first numbers of an array into another, which falls and holds eights.
merge: Any = intrinsic(_declare_merge)
# A bit for each of eight int64 from an index on that is even.
unmarked: Any = intrinsic(_declare_unmarked)
# A float32, given as such or as its 32 bits, or a float16 as its 16: with
# F16C a loop of these becomes vcvtph2ps.
as_float: Any = intrinsic(_declare_as_float)
# The 16 bits of a float32 rounded to float16 (to nearest, ties to even).
as_half: Any = intrinsic(_declare_as_half)


@compiled()
def _transform(values: NDArray[np.float32]) -> None:
    """The Hadamard transform of (dim,) numbers in place, dim a power of two from 16 on."""
    for at in range(0, values.shape[0], 16):
        _mix(values, at)
    width = 16
    while width < values.shape[0]:
        for start in range(0, values.shape[0], 2 * width):
            for at in range(start, start + width, 16):
                _add_and_subtract(values, at, at + width)
        width *= 2


@compiled()
def rotate(
    vector: NDArray[np.float32], signs: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Multiply a vector (dim,) by `families.fast_rotations` of ``signs`` (groups, 2, dim), into
    ``out`` (groups * dim,): in a tenth of the time of a product with a matrix of 256 x 256."""
    dim = signs.shape[2]
    for g in range(signs.shape[0]):
        rotated = out[g * dim : (g + 1) * dim]
        for j in range(dim):
            rotated[j] = vector[j] * signs[g, 0, j]
        _transform(rotated)
        for j in range(dim):
            rotated[j] *= signs[g, 1, j]
        _transform(rotated)


@compiled()
def rotate_all(
    vectors: NDArray[np.float32], signs: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """`rotate` each of (n, dim) vectors, into the first columns of ``out`` (n, at least those)."""
    for i in range(vectors.shape[0]):
        rotate(vectors[i], signs, out[i])


@compiled()
def score_block_portably(
    codes: Any,
    code_at: int,
    table: Any,
    code_bytes: int,
    corrections: Any,
    additions: Any,
    at_item: int,
    query: tuple[int, int, int],
    threshold: int,
    out: Any,
) -> Any:
    """Score one block of BLOCK codes; the definition of what the fast form computes.

    A code's score is base + floor((sum over its nibbles of table[nibble] - offset) * correction /
    2^15) + floor(addition * gain / 2^15), or 0 if that is negative.

    Args:
        codes: uint8, flat; the block begins at ``code_at`` and holds ``code_bytes`` (even) rows of
            BLOCK bytes, byte r of every code in row r.
        table: uint8, (2 * code_bytes * 16,) flat: 16 entries of at most 63 for each nibble, low
            nibble of byte 0 first.
        corrections: int16, flat; 0 to CORRECTION_ONE, one per code from ``at_item``.
        additions: likewise, of at most 16383 on both sides of zero.
        query: offset, gain and base, int16.
        out: int16 (BLOCK,), receives the scores.

    Returns:
        uint32, bit i set where code i scores at least ``threshold``.
    """
    mask = np.uint32(0)
    offset, gain, base = query
    for i in range(BLOCK):
        lane = 2 * (i % 16) + i // 16
        total = np.int64(0)
        for r in range(code_bytes):
            both = codes[code_at + r * BLOCK + lane]
            total += np.int64(table[r * 32 + (both & 15)])
            total += np.int64(table[r * 32 + 16 + (both >> 4)])
        factor = np.int64(corrections[at_item + i])
        score = np.int64(base) + (((total - offset) * 2 * factor) >> 16)
        score += (np.int64(additions[at_item + i]) * 2 * gain) >> 16
        score = max(score, np.int64(0))
        out[i] = score
        if score >= threshold:
            mask |= np.uint32(1) << np.uint32(i)
    return mask


score_block: Any = intrinsic(_declare_score_block) if SHUFFLE else score_block_portably
