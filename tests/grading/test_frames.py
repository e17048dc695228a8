"""Frames among bytes that arrive in pieces: grading/frames.py."""

from spa_bench.grading.frames import frames
from spa_bench.sandbox.inside import calls

DATA = b"".join(
    calls.FRAME.pack(code, seconds, len(data)) + data for code, seconds, data in ((b"O", 0.5, b"abc"), (b"E", 0.0, b""))
)


def test_frames_follow_each_other():
    found = list(frames(DATA))
    assert [(code, seconds, DATA[start:stop]) for code, seconds, start, stop in found] == [
        (b"O", 0.5, b"abc"),
        (b"E", 0.0, b""),
    ]
    assert found[-1][3] == len(DATA)
    assert list(frames(b"")) == []


def test_a_frame_whose_bytes_have_not_all_come_stops_behind_the_end_and_a_part_of_a_head_is_none():
    head = calls.FRAME.size
    assert list(frames(DATA[: head - 1])) == []
    assert list(frames(bytearray(DATA[: head + 1]))) == [(b"O", 0.5, head, head + 3)]
    assert list(frames(DATA[: head + 3 + head - 1])) == [(b"O", 0.5, head, head + 3)]
