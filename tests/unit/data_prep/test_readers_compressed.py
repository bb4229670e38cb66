"""Compressed inputs, whole and damaged: nothing is lost in silence, and what lies around the damage is read."""

import bz2
import gzip
import io
import lzma
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.readers.decompress import PIECE_BYTES, DecompressedStream
from data_prep.readers.flaw import Flaw
from data_prep.readers.frames import CODECS, STEP_BYTES
from data_prep.readers.lines import MAX_RECORD_BYTES
from data_prep.readers.streams import open_input
from pipeline.errors import CorpusError
from tests.unit.data_prep.read_records import MIB, flaws, make_reader, read_all, texts

COMPRESS = {
    ".gz": lambda content: gzip.compress(content, 1),
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
NAMES = sorted(COMPRESS)


def lines(count: int, seed: int = 0) -> list[bytes]:
    """Lines of JSON that hardly compress."""
    random_ = random.Random(seed)
    return [b'{"text": "%d %s"}\n' % (number, random_.randbytes(150).hex().encode()) for number in range(count)]


def expected(some: list[bytes]) -> list[str]:
    return [line[10:-3].decode() for line in some]


def decode(suffix: str, stored: bytes) -> tuple[bytes, list[str]]:
    """All that can be read of a stream, and the flaws met."""
    codec = next(codec for codec in CODECS if codec.suffix == suffix)
    stream, found, met = DecompressedStream(io.BytesIO(stored), codec), b"", []
    while True:
        try:
            block = stream.read(1000)
        except Flaw as flaw:
            met.append(flaw.reason)
            continue
        if not block:
            return found, met
        found += block


@pytest.mark.parametrize("suffix", NAMES)
@given(parts=st.lists(st.binary(max_size=2000), max_size=5), repeats=st.integers(1, 200))
def test_any_number_of_frames_of_any_size(suffix: str, parts: list[bytes], repeats: int) -> None:
    parts = [part * repeats for part in parts]
    assert decode(suffix, b"".join(map(COMPRESS[suffix], parts))) == (b"".join(parts), [])


@pytest.mark.parametrize("suffix", NAMES)
def test_a_stream_cut_anywhere_gives_what_is_before_the_cut_and_says_so(suffix: str) -> None:
    content = b"".join(lines(20))
    stored = COMPRESS[suffix](content)
    for end in range(1, len(stored)):
        found, met = decode(suffix, stored[:end])
        assert content.startswith(found)
        assert met == ["cut_short"], end


@pytest.mark.parametrize("suffix", NAMES)
def test_a_flipped_bit_anywhere_is_told(suffix: str) -> None:
    content = b"".join(lines(20))
    stored = COMPRESS[suffix](content)
    for at in range(0, len(stored), 7):
        damaged = bytearray(stored)
        damaged[at] ^= 1 << (at % 8)
        found, met = decode(suffix, bytes(damaged))
        assert met or found == content, at  # some bits, such as a gzip header's time, mean nothing


@pytest.mark.parametrize("suffix", NAMES)
def test_frames_behind_a_damaged_one_are_read(tmp_path: Path, suffix: str) -> None:
    parts = [lines(400, seed) for seed in range(4)]
    frames = [bytearray(COMPRESS[suffix](b"".join(part))) for part in parts]
    frames[1][len(frames[1]) // 2] ^= 0xFF
    frames[1][len(frames[1]) // 2 + 1] ^= 0xFF
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(frames))
    found = read_all(make_reader("jsonl", tmp_path))
    read = texts(found)
    assert read[:400] == expected(parts[0])
    assert read[-800:] == expected(parts[2] + parts[3])
    assert [reason for _, reason in flaws(found)].count("damaged_archive") == 1


def test_gzip_gives_every_line_before_the_damage(tmp_path: Path) -> None:
    some = lines(300)
    stored = bytearray(gzip.compress(b"".join(some)))
    assert len(stored) > PIECE_BYTES
    stored[PIECE_BYTES + 5000 : PIECE_BYTES + 5100] = bytes(100)
    (tmp_path / "a.jsonl.gz").write_bytes(stored)
    found = read_all(make_reader("jsonl", tmp_path))
    kept = next(number for number, text in enumerate(expected(some)) if text not in texts(found))
    whole = PIECE_BYTES / len(stored) * len(some)
    assert kept > whole
    assert flaws(found)[0][0] >= kept


@pytest.mark.parametrize("suffix", NAMES)
def test_what_is_not_compressed_is_one_broken_record(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(lines(1000)))
    found = read_all(make_reader("jsonl", tmp_path))
    assert texts(found) == []
    assert flaws(found) == [(0, "damaged_archive")]


def test_zeros_between_and_behind_frames_are_padding() -> None:
    stored = gzip.compress(b"one") + bytes(700) + gzip.compress(b"two") + bytes(70000)
    assert decode(".gz", stored) == (b"onetwo", [])


def test_zstd_frames_to_be_skipped_and_long_windows() -> None:
    content = random.Random(0).randbytes(MIB) * 3
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    long = zstandard.ZstdCompressor(compression_params=parameters)
    with io.BytesIO() as file:
        with long.stream_writer(file, closefd=False) as writer:
            writer.write(content)
        stored = file.getvalue()
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00data"
    assert decode(".zst", skipped + stored + skipped + stored) == (content * 2, [])


@pytest.mark.parametrize("suffix", NAMES)
def test_an_empty_file_holds_nothing(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"")
    (tmp_path / f"b.jsonl{suffix}").write_bytes(COMPRESS[suffix](b""))
    assert read_all(make_reader("jsonl", tmp_path)) == []


def test_a_compressed_file_is_known_without_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.download").write_bytes(zstandard.compress(b"".join(lines(3))))
    assert texts(read_all(make_reader("jsonl", tmp_path / "a.download"))) == expected(lines(3))


def test_a_cut_text_file_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a text of some length")[:-9])
    assert flaws(read_all(make_reader("text", tmp_path))) == [(0, "cut_short")]


def test_paragraphs_before_a_cut_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n\ntwo\n\nthree")[:-8])
    found = read_all(make_reader("text", tmp_path, document="paragraph"))
    assert texts(found) == ["one", "two"]
    assert flaws(found) == [(2, "cut_short")]


def test_what_must_be_whole_is_refused_when_damaged(tmp_path: Path) -> None:
    path = tmp_path / "list.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    with open_input(str(path)) as file:
        assert file.read() == b"one\ntwo\n"
    path.write_bytes(gzip.compress(b"one\ntwo\n")[:-1])
    with pytest.raises(CorpusError, match=r"input .*list\.gz is damaged or cut short"), open_input(str(path)) as file:
        file.read()


def grown_mebibytes(folder: Path, records: int) -> float:
    """By how much a process grows in reading a folder, in which it finds so many records."""
    script = (
        "import resource, sys\n"
        "from tests.unit.data_prep.read_records import make_reader, open_all\n"
        "(reading,) = open_all(make_reader('jsonl', sys.argv[1]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert sum(1 for _ in reading) == int(sys.argv[2])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(records)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_memory_is_bounded_whatever_the_file_holds(tmp_path: Path, suffix: str) -> None:
    content = b"".join(lines(3000)) * 100  # 93 MB
    (tmp_path / f"a.jsonl{suffix}").write_bytes(COMPRESS[suffix](content))
    assert grown_mebibytes(tmp_path, 300_000) < 32


@pytest.mark.parametrize("suffix", NAMES)
def test_each_step_gives_a_bounded_amount_of_what_grows_without_end(suffix: str) -> None:
    stored = COMPRESS[suffix](bytes(300 * MIB)) + COMPRESS[suffix](b"end")
    frame, size, steps, data = next(codec for codec in CODECS if codec.suffix == suffix).begin(), 0, 0, stored
    while not frame.eof:
        output = frame.step(data)
        assert len(output) <= 5 * STEP_BYTES
        size, steps, data = size + len(output), steps + 1, frame.rest
    assert size == 300 * MIB
    assert steps >= size // (5 * STEP_BYTES)
    assert decode(suffix, data) == (b"end", [])


def wide_zstd_frame() -> bytes:
    """A frame that wants a window of 1 GiB (RFC 8878, 3.1.1.1.2) for a block of 4 bytes."""
    return b"\x28\xb5\x2f\xfd\x00\xa0\x21\x00\x00text"


def wide_xz_frame() -> bytes:
    """A stream whose one block says that it needs a dictionary of 1 GiB (the .xz file format, 3.1)."""
    stored = bytearray(lzma.compress(b"text"))
    assert stored[14:16] == b"\x21\x01"  # the filter LZMA2, with one byte of properties
    stored[16] = 36
    stored[20:24] = zlib.crc32(stored[12:20]).to_bytes(4, "little")
    return bytes(stored)


def test_a_frame_with_a_wild_window_is_refused_and_the_next_is_read() -> None:
    assert zstandard.get_frame_parameters(wide_zstd_frame()).window_size == 1 << 30
    assert zstandard.ZstdDecompressor(max_window_size=1 << 30).decompressobj().decompress(wide_zstd_frame()) == b"text"
    assert decode(".zst", wide_zstd_frame() + zstandard.compress(b"next")) == (b"next", ["too_much_memory"])
    assert decode(".xz", wide_xz_frame() + lzma.compress(b"next")) == (b"next", ["too_much_memory"])


def test_memory_is_bounded_however_long_a_line_is(tmp_path: Path) -> None:
    line = b'{"text": "' + b"x" * (300 * MIB) + b'"}\n'
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(line + lines(1)[0]))
    assert grown_mebibytes(tmp_path, 2) < 3 * MAX_RECORD_BYTES / MIB


@pytest.mark.parametrize("content", [b"some text", b""])
def test_a_file_of_another_name_is_known_by_its_beginning(tmp_path: Path, content: bytes) -> None:
    for suffix, compress in COMPRESS.items():
        (tmp_path / f"{suffix[1:]}.txt").write_bytes(compress(content))
    assert texts(read_all(make_reader("text", tmp_path))) == [content.decode()] * len(COMPRESS)


def test_a_text_may_begin_like_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("BZh is what files of bzip2 begin with")
    (tmp_path / "b.txt").write_text("BZh9")
    assert texts(read_all(make_reader("text", tmp_path))) == ["BZh is what files of bzip2 begin with", "BZh9"]
