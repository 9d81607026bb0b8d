"""Write films of a bright square that moves, small enough for tests, and change their bytes."""

import struct

import cv2
import numpy as np

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}


def write_film(path, frames=12, *, rate=25.0, size=(48, 64)):
    """Write a film of (H, W) and return its path; frame i is brighter from column i on."""
    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), code, rate, size[::-1])
    assert writer.isOpened()
    for index in range(frames):
        writer.write(picture(index, size))
    writer.release()
    return path


def picture(index, size=(48, 64)):
    """Draw frame `index` (H, W, 3)."""
    frame = np.full((*size, 3), 40, dtype=np.uint8)
    frame[8:24, 4 + index : 20 + index] = 220
    return frame


def cut(path, share):
    """Keep the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def patch(path, box, offset, layout, *values):
    """Write values into an MP4's box, `offset` bytes after its name."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(box) + 4 + offset, *values)
    path.write_bytes(data)


def read_film(path):
    """Read a film's frames (H, W, 3), and its rate."""
    film = cv2.VideoCapture(str(path))
    frames = []
    while (answer := film.read())[0]:
        frames.append(answer[1])
    return frames, film.get(cv2.CAP_PROP_FPS)
