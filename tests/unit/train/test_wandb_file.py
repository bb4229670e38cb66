"""W&B's log, read and written again."""

import struct
import zlib

from wandb.proto.wandb_internal_pb2 import Record

from pipeline.train.tracking.wandb_file import damage, num_rows, records, without_rows, written

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def record(step: int | None, num_bytes: int) -> bytes:
    """One of history, or of something else."""
    made = Record()
    if step is None:
        made.output_raw.line = "x" * num_bytes
    else:
        made.history.item.add(key="step", value_json=str(step))
        made.history.item.add(key="pad", value_json='"' + "x" * num_bytes + '"')
    return made.SerializeToString()


def checked(content: bytes) -> None:
    """Each piece has its checksum, and no header crosses a block."""
    begin = len(HEADER)
    while begin < len(content):
        if 32768 - begin % 32768 < 7:
            begin += 32768 - begin % 32768
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, begin)
        assert checksum == zlib.crc32(bytes([kind]) + content[begin + 7 : begin + 7 + length])
        begin += 7 + length


def log(parts: list[bytes]) -> bytes:
    """A log of small records, as LevelDB would write it while they fit into a block."""
    return HEADER + b"".join(struct.pack("<IHB", zlib.crc32(b"\x01" + part), len(part), 1) + part for part in parts)


def test_first_rows_are_left_out_and_all_else_stays() -> None:
    parts = [record(None, 5), record(1, 3), record(None, 9), record(2, 4), record(3, 2)]
    content = log(parts)
    assert num_rows(content) == 3
    assert without_rows(content, 0) == content
    assert list(records(without_rows(content, 2))) == [parts[0], parts[2], parts[4]]
    assert num_rows(content[:-1]) == 2


def test_records_that_cross_blocks() -> None:
    parts = [record(step, 3000 + 977 * step) for step in range(40)] + [record(None, 100_000), record(40, 32768)]
    content = written(HEADER, parts)
    checked(content)
    assert list(records(content)) == parts
    assert list(records(without_rows(content, 40))) == parts[40:]


def test_reading_stops_at_a_record_that_is_damaged() -> None:
    parts = [record(step, 20) for step in range(5)]
    content = log(parts)
    begin = len(log(parts[:3]))
    for place in (begin, begin + 5, begin + 6, begin + 7, begin + 20):  # checksum, length, kind, data
        bad = bytearray(content)
        bad[place] ^= 0x80
        assert list(records(bytes(bad))) == parts[:3]
        assert damage(bytes(bad)) == begin
    assert num_rows(bytes(bad)) == 3
    assert damage(content) is None
    assert damage(content[:-1]) is None
