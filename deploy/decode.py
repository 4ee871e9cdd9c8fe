#!/usr/bin/env python3
"""Prints the readings of columnar lineside batches as JSON lines: decode.py FILE..., or from standard input.

pip install zstandard protobuf pcodec numpy grpcio-tools; python -m grpc_tools.protoc -I. --python_out=. lineside.proto
The comments in lineside.proto say what it all means. Values are before scale and offset: the catalogue has those.
"""
import json
import sys

import numpy as np
import zstandard
from pcodec import wrapped

import lineside_pb2 as pb

MESSAGE_MAX, READINGS_MAX, WITHHELD, BAD = 8 << 20, 1 << 20, 1, 0x200


def unpack(group):
    kind = pb.NumberType.Name(group.type).lower()
    file, header = wrapped.FileDecompressor.new(group.pco)
    chunk, meta = file.chunk_decompressor(group.pco[header:], kind)
    residuals = np.zeros(group.count, kind.replace("i", "int"))
    chunk.read_page_into(group.pco[header + meta:], group.count, residuals)
    return residuals.astype(np.int64)


def floats(numbers, decimals, integer, floating):
    if decimals:
        return (numbers / 10.0 ** (decimals - 1)).astype(floating)
    bits = numbers.astype(integer)
    return np.where(bits < 0, bits ^ np.iinfo(integer).max, bits).view(floating)


def decode(payload):
    """Yields sequence, index, series id, UTC in ms, value (None when bad), quality of each reading; then the same of
    each aggregate in the place of readings, with a dictionary as value and without quality."""
    if zstandard.frame_content_size(payload) not in range(MESSAGE_MAX + 1):
        raise ValueError("not a lineside payload")
    batch = pb.Batch.FromString(zstandard.ZstdDecompressor().decompress(payload))
    counts = (batch.commits, sum(table.rows * max(1, len(table.series)) for table in batch.tables),
              sum(group.count for group in batch.groups) // 16, sum(thinned.aggregates for thinned in batch.thinned),
              sum(max(1, sum(q.rows)) * q.count for q in batch.qualities))
    if batch.format != 1 or max(counts) > READINGS_MAX:
        raise ValueError("not a lineside payload of format 1")
    c, residuals, position = batch.columns, [unpack(group) for group in batch.groups], 0
    qualities = {q.first_column + i: np.repeat(q.code, q.rows) for q in batch.qualities for i in range(q.count)}

    def column(count):
        nonlocal position
        kind, decimals, base, slope, multiple, cumulative, group = (
            field[position] if field else 0
            for field in (c.kind, c.decimals, c.base, c.slope, c.multiple, c.cumulative, c.group))
        position += 1
        r = np.zeros(count, np.int64)
        if group:
            r, residuals[group - 1] = residuals[group - 1][:count], residuals[group - 1][count:]
        r = np.cumsum(r) if cumulative else r
        numbers = base + np.int64(multiple or 1) * (np.int64(slope) * np.arange(count) + r)
        return {pb.INT: lambda: numbers, pb.UINT: lambda: numbers.view(np.uint64), pb.BOOL: lambda: numbers != 0,
                pb.FLOAT32: lambda: floats(numbers, decimals, np.int32, np.float32),
                pb.FLOAT64: lambda: floats(numbers, decimals, np.int64, np.float64),
                pb.TEXT: lambda: [batch.texts[number] for number in numbers]}[kind]()

    sequences, _boots, _clocks, _wall_minus_monotonic = (column(batch.commits) for _ in range(4))
    for table in batch.tables:
        commits, indexes, times = (column(table.rows) for _ in range(3))
        for place, series in enumerate(np.cumsum(table.series)):
            quality = qualities.get(position, np.zeros(table.rows, int))
            has_value = (quality < BAD) & (quality != WITHHELD)
            values = iter(column(int(has_value.sum())))
            for row in np.flatnonzero(quality != WITHHELD):
                value = next(values) if has_value[row] else None
                yield (int(sequences[commits[row]]), int(indexes[row]) + place, int(series),
                       batch.base_time_ms + int(times[row]), value, int(quality[row]))
    for thinned in batch.thinned:
        heads = [column(thinned.aggregates) for _ in range(7)]
        numbers = [iter(column(int((heads[6] == 1).sum()))) for _ in range(4)]
        texts = iter(column(int((heads[6] == 2).sum())))
        for index, series, window, count, bad, last_after_ms, kind in zip(*heads):
            start_ms = int(window) * thinned.window_s * 1000
            value = dict(window_s=thinned.window_s, count=int(count), bad=int(bad),
                         last_time_ms=start_ms + int(last_after_ms))
            if kind == 1:
                place, low, high, last = (float(next(each)) for each in numbers)
                part = place / 0xFFFFFFFF
                value.update(min=low, max=high, mean=min(max(low * (1 - part) + high * part, low), high), last=last)
            elif kind == 2:
                value.update(last=next(texts))
            yield thinned.sequence, int(index), int(series), start_ms, value, None


def plain(value):  # 0.1 in single precision prints as 0.1
    return float(str(value)) if isinstance(value, np.floating) else value.item() if hasattr(value, "item") else value


for path in sys.argv[1:] or ["/dev/stdin"] if __name__ == "__main__" else []:
    for *identity, time_ms, value, quality in decode(open(path, "rb").read()):
        print(json.dumps(dict(zip(("sequence", "index", "series"), identity), time_ms=time_ms, value=plain(value),
                              quality=quality)))
