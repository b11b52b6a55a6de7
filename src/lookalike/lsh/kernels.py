"""The inner loops of a search, compiled by Numba: scan codes, and the search of a segment.

All release the GIL and write only into arrays that they are given or make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import LARGEST_COSINE
from lookalike.lsh.links import LINKS
from lookalike.lsh.lookup import make_table, most_in_common
from lookalike.lsh.probing import choose_buckets, equal_scores, product, project
from lookalike.lsh.simd import BLOCK, SCORES, merge, popcount, prefetch, score_block, trailing_zeros
from lookalike.lsh.vectors import HUGE, TINY, UNIT
from lookalike.lsh.walk import (
    MIDDLE,
    NOTHING,
    dot,
    empty_set,
    entry_of,
    insert,
    rerank,
    score_links,
    seen_before,
    walk,
)

LINES_AHEAD = 16
ENTRIES = 4
"""Items, each the best in a column of the entries, whose links are followed first."""
SURVIVORS = 1 << 13
BYTES_OF_1 = np.uint64(0x0101010101010101)
MOST_SAME = np.uint64(1 << 12)
BAD_VECTOR, BAD_ID, BAD_QUERY = -1, -2, -3


@compiled()
def _scaled(query: NDArray[np.float32], unit: NDArray[np.float32]) -> bool:
    """Scale a query to unit length, as `unit_rows` does; False if that takes more than float32."""
    length = np.sqrt(dot(query, query))
    if not TINY < length < HUGE:
        return False
    scale = np.float32(1) if abs(length - 1) < UNIT else np.float32(1) / length
    for j in range(query.shape[0]):
        unit[j] = query[j] * scale
    return True


@compiled()
def _own_code(
    margins: NDArray[np.float32],
    tolerance: float,
    code: NDArray[np.uint8],
    mask: NDArray[np.uint8],
) -> None:
    """The query's own code, (bytes,), and the bits that rounding cannot have changed."""
    for byte in range(code.shape[0]):
        bits = np.uint8(0)
        sure = np.uint8(0)
        for j in range(8):
            margin = margins[8 * byte + j]
            bits |= np.uint8(margin > 0) << np.uint8(j)
            sure |= np.uint8(abs(margin) > tolerance) << np.uint8(j)
        code[byte] = bits
        mask[byte] = sure


@compiled()
def _has_zero(word: Any) -> Any:
    """Whether one of the eight bytes of a word is zero."""
    return (word - BYTES_OF_1) & ~word & (BYTES_OF_1 << np.uint64(7)) != 0


@compiled()
def _mark_same(
    words: NDArray[np.uint64],
    at: int,
    code: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    scores: NDArray[np.int16],
) -> Any:
    """Give the codes of a block that equal the query's own the best score; a bit for each.

    A row of a block, a byte of all its codes, is four ``words``.
    """
    first = second = third = fourth = np.uint64(0)
    for r in range(code.shape[0]):
        wanted, sure = np.uint64(code[r]) * BYTES_OF_1, np.uint64(mask[r]) * BYTES_OF_1
        first |= (words[at + 4 * r] ^ wanted) & sure
        second |= (words[at + 4 * r + 1] ^ wanted) & sure
        third |= (words[at + 4 * r + 2] ^ wanted) & sure
        fourth |= (words[at + 4 * r + 3] ^ wanted) & sure
        if r % 2 and not (
            _has_zero(first) or _has_zero(second) or _has_zero(third) or _has_zero(fourth)
        ):
            return np.uint32(0)
    same = np.uint32(0)
    differing = (first, second, third, fourth)
    for i in range(BLOCK):
        lane = 2 * (i % 16) + i // 16
        if (differing[lane // 8] >> np.uint64(8 * (lane % 8))) & np.uint64(255) == 0:
            scores[i] = SCORES - 1
            same |= np.uint32(1) << np.uint32(i)
    return same


@compiled()
def _compact(
    scores: NDArray[np.int16],
    rows: NDArray[np.int64],
    count: int,
    threshold: int,
    depth: int,
    slots: NDArray[np.int64],
) -> int:
    """Keep what is above ``threshold``, and of what is on it as many as fill up ``depth``, or all
    if it is the best score.
    """
    above = 0
    for i in range(count):
        above += scores[i] > threshold
    room = count if threshold == SCORES - 1 else max(0, depth - above)
    kept = 0
    for i in range(count):
        on = scores[i] == threshold and room > 0
        room -= on
        if scores[i] > threshold or on:
            scores[kept] = scores[i]
            rows[kept] = rows[i]
            kept += 1
    if slots.shape[0] > 0:
        slots[:] = NOTHING
        for i in range(kept):
            seen_before(slots, rows[i])
    return kept


@compiled()
def _scan(
    chosen: NDArray[np.int64],
    count: int,
    offsets: NDArray[np.uint32],
    sizes: NDArray[np.uint32],
    blocks: NDArray[np.uint32],
    codes: NDArray[np.uint8],
    code_bytes: int,
    corrections: NDArray[np.int16],
    additions: NDArray[np.int16],
    table_rows: NDArray[np.uint32],
    blocked: NDArray[np.bool_],
    table: NDArray[np.uint8],
    query: tuple[int, int, int],
    own: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    own_buckets: int,
    depth: int,
    histogram: NDArray[np.int32],
    slots: NDArray[np.int64],
    items: int,
    scores: NDArray[np.int16],
    rows: NDArray[np.int64],
) -> tuple[int, int]:
    """Visit buckets in order; keep the candidates that score at least the depth-th best so far.

    That threshold only rises and is exact, kept by a histogram of the scores. Repeats of a row (it
    lies in a bucket of every table) and blocked rows do not count. Damaged corrections or rows of a
    file cost candidates, never more: scores and rows are kept within bounds, of ``items`` rows.
    In the first ``own_buckets`` codes like the query's ``own`` score best: so an item that is
    searched by itself is among the candidates.

    Returns:
        number of candidates kept, in ``scores`` and ``rows``, and of those that counted when met.
    """
    histogram[:] = 0
    slots[:] = NOTHING
    out = np.empty(BLOCK, np.int16)
    words = codes.view(np.uint64)
    same = np.uint64(0)
    of_query = (np.int16(query[0]), np.int16(query[1]), np.int16(query[2]))
    threshold = 0
    lowest: Any = SCORES - 1
    above = 0
    kept = 0
    met = 0
    for p in range(count):
        bucket = chosen[p]
        size = np.int64(sizes[bucket])
        first_block = np.int64(blocks[bucket])
        first = np.int64(offsets[bucket])
        if p + 1 < count:
            following = np.int64(blocks[chosen[p + 1]])
            for line in range(LINES_AHEAD):
                prefetch(codes, following * code_bytes * BLOCK + line * 64)
            prefetch(corrections, following * BLOCK)
            prefetch(additions, following * BLOCK)
        for start in range(0, size, BLOCK):
            block = first_block + start // BLOCK
            mask = score_block(
                codes,
                block * code_bytes * BLOCK,
                table,
                np.int64(code_bytes),
                corrections,
                additions,
                block * BLOCK,
                of_query,
                np.int16(threshold),
                out,
            )
            if p < own_buckets and same < MOST_SAME:
                marked = _mark_same(words, block * code_bytes * 4, own[0], own[1], out)
                mask |= marked
                same += popcount(np.uint64(marked))
            if size - start < BLOCK:
                mask &= np.uint32((np.int64(1) << (size - start)) - 1)
            while mask:
                i = trailing_zeros(mask)
                mask &= mask - np.uint32(1)
                score = min(np.int64(out[i]), np.int64(SCORES - 1))
                if score < threshold:
                    continue
                row = first + start + i
                if table_rows.shape[0] > 0:
                    row = np.int64(table_rows[row])
                    if row >= items:
                        continue
                if blocked.shape[0] > 0 and blocked[row]:
                    continue
                if slots.shape[0] > 0 and seen_before(slots, row):
                    continue
                if kept == scores.shape[0]:
                    kept = _compact(scores, rows, kept, threshold, depth, slots)
                    if kept == scores.shape[0]:
                        continue
                scores[kept] = score
                rows[kept] = row
                kept += 1
                met += 1
                histogram[score] += 1
                above += 1
                if above <= depth:  # it need not climb from 0 through what nothing scored
                    lowest = min(lowest, score)
                    threshold = lowest if above == depth else 0
                while above - histogram[threshold] >= depth:
                    above -= histogram[threshold]
                    threshold += 1
    return _compact(scores, rows, kept, threshold, depth, slots[:0]), met


@compiled()
def _named(
    ids: NDArray[np.int64],
    wanted: int,
    has_vectors: bool,
    cosines: NDArray[np.float32],
    found: NDArray[np.int64],
) -> int:
    """Put the ids of the rows that were ``found`` (k,) in their place; BAD_VECTOR or BAD_ID if one
    of them has what only a damaged file holds, else 0.
    """
    if has_vectors and not cosines[0] < LARGEST_COSINE:
        return BAD_VECTOR
    for i in range(found.shape[0]):
        if found[i] >= 0:
            found[i] = ids[found[i]]
            if found[i] < 0 and i < wanted:
                return BAD_ID
    return 0


@compiled()
def search_range(
    queries: NDArray[np.float32],
    projection: Any,
    margins: NDArray[np.float32],
    mapped: NDArray[np.float32],
    scoring: Any,
    segment: Any,
    blocked: NDArray[np.bool_],
    tables: int,
    hamming_scale: int,
    budget: int,
    depth: int,
    wanted: int,
    out_ids: NDArray[np.int64],
    out_cosines: NDArray[np.float32],
) -> int:
    """Search a batch of queries in one segment.

    Args:
        queries: (q, dim) unit rows; of any length where they are projected here.
        projection: a ``Projection``, as a plain tuple (a named one takes twice the time to hand
            over), or NO_PROJECTION.
        margins: (q, bits), see ``make_table``; (0, 0): project the queries here.
        mapped: ``Prepared.mapped``, or without a projection the scores of the buckets of all
            tables, (q, buckets); (0, 0) likewise.
        scoring: a ``Scoring``, as a plain tuple.
        segment: a ``Scanned``, as a plain tuple: starts, sizes, blocks (buckets of all tables,);
            codes, corrections, additions, flat; rows (tables * n,), or (0,) for one table, whose
            positions are rows; vectors (n, dim) float32, or float16 as their bits, or (0, dim):
            rank by the codes alone; ids.
        blocked: (n,) rows that do not count, or (0,).
        budget: items to visit; more if fewer than ``wanted`` that count were met.
        depth: candidates to re-rank.
        out_ids, out_cosines: (q, k) receive the best, -1 and -inf where there are fewer; by id
            where cosines are equal. Without vectors the second are the codes' scores,
            from 0 to SCORES - 1.

    Returns:
        number of items visited, for statistics; or BAD_VECTOR or BAD_ID if a hit has what only a
        damaged file holds; or BAD_QUERY, see `_scaled`.
    """
    starts, sizes, blocks, codes, corrections, additions, table_rows, vectors, ids = segment
    numbers, mean = scoring
    step, unit, tolerance = numbers[0], numbers[1], numbers[5]
    of_mean, anchors = projection[3:]
    count, bits = sizes.shape[0], margins.shape[1]
    alone = margins.shape[0] == 0
    if alone:
        bits = of_mean.shape[0] - anchors.shape[0]
    projected = np.empty(of_mean.shape[0] + 1, np.float32)
    bucket_scores = np.empty(2 * anchors.shape[1], np.float32)
    unit_query = np.empty(queries.shape[1], np.float32)
    code_bytes = bits // 8
    chosen = np.empty(count, np.int64)
    spare = np.empty(count, np.int64)
    table = np.empty(bits * 4, np.uint8)
    own = np.empty((2, code_bytes), np.uint8)
    histogram = np.empty(SCORES, np.int32)
    capacity = max(SURVIVORS, 4 * max(depth, wanted))
    slots = empty_set(capacity) if tables > 1 else np.empty(0, np.int64)
    scores = np.empty(capacity, np.int16)
    rows = np.empty(capacity, np.int64)
    visited = np.int64(0)
    items = np.int64(0)
    for q in range(queries.shape[0]):
        out_ids[q] = -1
        out_cosines[q] = -np.inf
        query = queries[q]
        if alone:
            query = unit_query
            if not _scaled(queries[q], query):
                return BAD_QUERY
            project(query, projection, projected)
        its_margins = projected[:bits] if alone else margins[q]
        its_scores = projected[bits:] if alone else mapped[q]
        if anchors.shape[0] > 0:
            product(its_scores, anchors, bucket_scores)
            its_scores = bucket_scores[:count]
        top = most_in_common(query, numbers, mean) / unit
        scaling, _ = make_table(its_margins, hamming_scale, step, top, np.inf, table)
        _own_code(its_margins, tolerance, own[0], own[1])
        allowance = budget
        while True:
            number = choose_buckets(its_scores, sizes, allowance, chosen, spare)
            own_buckets = 0
            if vectors.shape[0] > 0:
                own_buckets = equal_scores(its_scores, chosen, number)
            kept, met = _scan(
                chosen,
                number,
                starts,
                sizes,
                blocks,
                codes,
                code_bytes,
                corrections,
                additions,
                table_rows,
                blocked,
                table,
                scaling,
                (own[0], own[1]),
                own_buckets,
                depth,
                histogram,
                slots,
                ids.shape[0],
                scores,
                rows,
            )
            items = np.int64(0)
            for p in range(number):
                items += sizes[chosen[p]]
            if met >= wanted or items < allowance:
                break
            allowance *= 4
        visited += items
        if vectors.shape[0] > 0:
            rerank(query, vectors, ids, rows, kept, out_cosines[q], out_ids[q])
        else:
            for i in range(kept):
                insert(np.float32(scores[i]), rows[i], ids, out_cosines[q], out_ids[q])
        bad = _named(ids, wanted, vectors.shape[0] > 0, out_cosines[q], out_ids[q])
        if bad:
            return int(bad)
    return int(visited)


@compiled()
def _highest(scores: NDArray[np.int16], highest: NDArray[np.int32]) -> None:
    """Of each column of ``scores`` the highest, above 16 bits of its row: without branches."""
    highest[:] = -1
    for row in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            highest[i] = max(highest[i], np.int32(np.int32(scores[row, i]) << 16 | row))


@compiled()
def walk_range(
    queries: NDArray[np.float32],
    projection: Any,
    margins: NDArray[np.float32],
    scoring: Any,
    entries: NDArray[np.uint8],
    segment: Any,
    blocked: NDArray[np.bool_],
    wanted: int,
    beam: int,
    out_ids: NDArray[np.int64],
    out_cosines: NDArray[np.float32],
) -> int:
    """Search a batch of queries in one segment by its links: from the nearest of some items, by
    their codes, to nearer ones, see `walk`.

    Args:
        queries, margins, blocked, out_ids, out_cosines: as `search_range` takes them.
        projection: a ``Projection`` of the codes alone, or NO_PROJECTION.
        entries: the items to begin at, see ``Segment.entries``.
        segment: vectors, ids, the records of the links, their two units, see `Links`.
        beam: how many to look at of what was met.

    Returns:
        number of queries whose links lead to fewer than ``wanted``; or what is below 0 likewise.
    """
    vectors, ids, links, of_correction, of_addition = segment
    numbers, mean = scoring
    step, unit = numbers[0], numbers[1]
    alone = margins.shape[0] == 0
    bits = projection[3].shape[0] if alone else margins.shape[1]
    projected = np.empty(bits, np.float32)
    unit_query = np.empty(queries.shape[1], np.float32)
    table = np.empty(bits * 4, np.uint8)
    scores = np.empty((entries.shape[0], LINKS), np.int16)
    seen = empty_set(beam * LINKS // 4)
    pool = np.empty((beam // 8 + 1) * 8, np.int64)
    highest, fresh = np.empty(LINKS, np.int32), np.empty(LINKS, np.int64)
    finest = np.float32(0.999) * np.float32(of_correction) / np.float32(of_addition)
    flat, width = entries.reshape(-1), entries.shape[1]
    shorts, rows = flat.view(np.int16), entries.view(np.uint32)[:, -LINKS:]
    own = (np.float32(1) - dot(mean, mean) - numbers[4]) / 2
    few = 0
    for q in range(queries.shape[0]):
        out_ids[q] = -1
        out_cosines[q] = -np.inf
        query = queries[q]
        if alone:
            query = unit_query
            if not _scaled(queries[q], query):
                return BAD_QUERY
            project(query, projection, projected)
        its_margins = projected[:bits] if alone else margins[q]
        scaling, scale = make_table(its_margins, 0, step, 0, finest, table)
        # A score of 1 more stands for so much of the cosine, and MIDDLE for ``shared``.
        of_one, shared = unit / np.float32(scale), dot(query, mean) + own
        pool[:] = NOTHING
        of_query = scaling[0], scaling[1], MIDDLE
        for block in range(entries.shape[0]):
            score_links(flat, shorts, block * width, table, of_query, 0, scores[block])
        _highest(scores, highest)
        for i in range(LINKS):
            row = np.int64(rows[highest[i] & 0xFFFF, i])
            estimate = shared + ((highest[i] >> 16) - MIDDLE) * of_one
            fresh[i] = entry_of(estimate, row) if row < ids.shape[0] else NOTHING
        merge(fresh, LINKS, pool, 0, 8)
        pool[ENTRIES:] = NOTHING
        of_one = np.float32(of_correction) / np.float32(scale)
        walk(
            query,
            table,
            (scaling[0], int(of_addition / of_one * (1 << 15)), of_one),
            vectors,
            ids,
            links,
            blocked,
            seen,
            pool,
            beam,
            out_cosines[q],
            out_ids[q],
        )
        few += int(out_ids[q, wanted - 1] < 0)
        bad = _named(ids, wanted, True, out_cosines[q], out_ids[q])
        if bad:
            return int(bad)
    return int(few)
