"""Make films, folders of pictures and first masks, and the segment commands that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from PIL import Image

from tests.fuzz import pictures
from tests.fuzz.draw import Draw
from tests.fuzz.runner import Case, Command, Reply

COUNT = 100
KIND = "films"
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mov": "mp4v"}
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


def is_process(index: int) -> bool:
    """Tell the cases that are run as a process."""
    return index % 8 == 5


@dataclass
class Video:
    """A film or a folder of pictures, with the stems of the answers it asks for.

    wrong: why no answer for it can be whole; name: as written on the command line.
    """

    path: Path
    size: tuple[int, int]
    stems: set[str]
    wrong: list[str] = field(default_factory=list)
    sound: bool = True


def case(index: int, folder: Path, checkpoint: Path) -> Case:
    """Make a video with a first mask, change both, and say how to segment it."""
    draw = Draw(KIND, index)
    made = Case(KIND, index, folder, shared=(checkpoint,), process=is_process(index))
    made.work.mkdir(parents=True)
    video = _pictures(draw, made) if index % 3 == 0 else _film(draw, made)
    mask = _mask(draw, made, video)
    out, words = _out(draw, made, video, mask)
    if draw.chance(0.6):
        words += ["--height", draw.one(["16", "24", "480", "100000", "9" * 20])]
    elif draw.chance(0.2):
        words += ["--height", draw.one(["0", "-5", "15", "1e3", "all"])]
        made.changes.append("height")
        video.wrong.append("the height is no number of rows from 16 on")
    given = {"--checkpoint": str(checkpoint), "--video": str(video.path), "--mask": str(mask)}
    written = [word for pair in given.items() for word in pair]
    names = (video.path.name, mask.name, "--height", "--out", out.name, "frame ")

    def judge(reply: Reply) -> Iterator[str]:
        found = answers(out)
        if found is None:
            yield f"exit code 0, and nothing that can be read at {out.name}"
        elif isinstance(found, int) and found != len(video.stems):
            yield f"{found} frames in {out.name} for {len(video.stems)} frames"
        elif isinstance(found, set) and found != video.stems:
            yield f"answers {sorted(found)[:9]} for the frames {sorted(video.stems)[:9]}"

    def partial(reply: Reply) -> Iterator[str]:
        found = answers(out) if out.exists() and not out.is_symlink() else None
        if isinstance(found, set) and (strange := found - video.stems):
            yield f"a failure left answers for no frame: {sorted(strange)[:9]}"

    made.commands.append(
        Command(
            module="orchestrator.segment",
            words=(*written, *words),
            names=names,
            wrong=tuple(video.wrong),
            sound=video.sound and not video.wrong,
            judge=judge,
            partial=partial,
            stores=(str(out.relative_to(folder)),) if out.is_relative_to(folder) else (),
        )
    )
    return made


def answers(out: Path) -> set[str] | int | None:
    """Return the stems of the masks in a folder, or the number of frames in a film."""
    if out.is_dir():
        found = {path.stem for path in out.glob("*.png")}
        return found - {"mine"} or None
    if not out.is_file():
        return None
    return count_frames(out) or None


def count_frames(film: Path) -> int:
    """Decode a film to its end."""
    reader = cv2.VideoCapture(str(film))
    count = 0
    while reader.read()[0]:
        count += 1
    reader.release()
    return count


def _film(draw: Draw, made: Case) -> Video:
    suffix = draw.one([".mp4", ".mp4", ".avi", ".mov"])
    name = draw.one(["clip", "clip", "my clip #1", "ключ 東京", "a:b", "x=y&z?", "50%d", "-clip"])
    length, rates = draw.one([1, 2, 5, 8, 12]), [24.0, 25.0, 0.5, 29.97, 120.0, 1000.0]
    if suffix == ".avi":
        rates += [119.997, 119.997]  # mp4 cannot hold that rate, and no answer may fail by it
    rate = draw.one(rates)
    path = made.folder / f"{name}{suffix}"
    size, count = write_film(draw, path, length, rate)
    video = Video(path, size, {f"{number:05d}" for number in range(count)})
    made.changes.append(f"{path.name} of {count} frames, {rate} a second")
    if draw.chance(0.45):
        how = draw.one(sorted(FILM_CHANGES))
        made.changes.append(how)
        FILM_CHANGES[how](draw, video)
    return video


def write_film(draw: Draw, path: Path, length: int, rate: float) -> tuple[tuple[int, int], int]:
    """Write a film; return its size (H, W) and its frame count, as read back."""
    height, width = draw.one(pictures.SIZES)
    plain = path.with_name(f"plain{path.suffix}")  # a name that the writer takes for a file
    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(plain), code, rate, (width, height))
    for step in range(length):
        mask = pictures.ids(height, width, step % 8)
        writer.write(pictures.frame(draw, mask)[..., ::-1])
    writer.release()
    reader = cv2.VideoCapture(str(plain))
    read, frame = reader.read()
    reader.release()
    assert read, f"a film of {length} frames of {width}x{height} could not be written"
    count = count_frames(plain)
    plain.rename(path)
    return (frame.shape[0], frame.shape[1]), count


def _shorter(draw: Draw, video: Video) -> None:
    data = video.path.read_bytes()
    video.path.write_bytes(data[: len(data) * draw.whole(20, 90) // 100])
    video.wrong.append("the film is cut")


def _holed(draw: Draw, video: Video) -> None:
    """Write zeros over a tenth of the file, at half of it."""
    data = bytearray(video.path.read_bytes())
    start, length = len(data) // 2, max(1, len(data) // 10)
    data[start : start + length] = bytes(length)
    video.path.write_bytes(bytes(data))
    video.sound = False


def _noise(draw: Draw, video: Video) -> None:
    video.path.write_bytes(draw.rng.bytes(5000))
    video.wrong.append("the film holds noise")


def _no_bytes(draw: Draw, video: Video) -> None:
    video.path.write_bytes(b"")
    video.wrong.append("the film is empty")


def _other_name(draw: Draw, video: Video) -> None:
    other = video.path.with_suffix(draw.one([".avi", ".mp4", ".MP4", ".mkv", ".txt", ""]))
    video.path.rename(other)
    video.path = other
    video.sound = other.suffix.lower() in FILMS


def _absent(draw: Draw, video: Video) -> None:
    video.path.unlink()
    video.wrong.append("the film is not there")


def _linked(draw: Draw, video: Video) -> None:
    link = video.path.with_name(f"link{video.path.suffix}")
    link.symlink_to(video.path)
    video.path = link


FILM_CHANGES: Mapping[str, Callable[[Draw, Video], None]] = {
    "cut film": _shorter,
    "cut film again": _shorter,
    "zeros inside": _holed,
    "noise": _noise,
    "zero bytes": _no_bytes,
    "another suffix": _other_name,
    "no film": _absent,
    "a link to the film": _linked,
}


def _pictures(draw: Draw, made: Case) -> Video:
    folder = made.folder / draw.one(["frames", "my frames #1", "ключ", "frames.mp4"])
    folder.mkdir()
    height, width = draw.one(pictures.SIZES)
    length, suffix = draw.one([0, 1, 3, 5, 8]), draw.one([".jpg", ".png", ".JPG", ".jpeg"])
    first, digits = draw.one([(0, 5), (1, 5), (7, 1), (98, 2), (0, 8)])
    video = Video(folder, (height, width), set())
    for step in range(length):
        stem = f"{first + step:0{digits}d}"
        picture = Image.fromarray(pictures.frame(draw, pictures.ids(height, width, step)))
        picture.save(folder / f"{stem}{suffix}")
        video.stems.add(stem)
    made.changes.append(f"{folder.name} of {length} pictures {suffix} from {first:0{digits}d}")
    if not length:
        video.wrong.append("there is no picture")
    elif draw.chance(0.6):
        how = draw.one(sorted(PICTURE_CHANGES))
        made.changes.append(how)
        PICTURE_CHANGES[how](draw, video)
    return video


def _drawn(draw: Draw, video: Video) -> Path:
    return draw.one([path for path in sorted(video.path.iterdir()) if path.stem in video.stems])


def _broken(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    pictures.DAMAGED[draw.one(sorted(pictures.DAMAGED))](path, draw)
    video.wrong.append(f"the picture {path.name} is damaged")


def _odd_picture(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    if path.suffix != ".png":
        pictures.ODD[draw.one(sorted(pictures.ODD))](path, draw)
        video.sound = False


def _larger(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    with Image.open(path) as picture:
        picture.resize((99, 80)).save(path)
    video.wrong.append(f"the picture {path.name} has another size")


def _twin(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    other = path.with_suffix(".jpeg" if path.suffix != ".jpeg" else ".jpg")
    other.write_bytes(path.read_bytes())
    video.wrong.append(f"there are two pictures {path.stem}")


def _first_mask_inside(draw: Draw, video: Video) -> None:
    path = min(path for path in video.path.iterdir() if path.stem in video.stems)
    pictures.SAVED["palette"](path.with_suffix(".png"), pictures.ids(*video.size))
    if path.suffix == ".png":
        video.sound = False  # a frame was replaced: nobody can tell
    else:
        video.wrong.append("a mask lies among the pictures under a frame's name")


def _hidden(draw: Draw, video: Video) -> None:
    (video.path / "._00001.jpg").write_bytes(b"\0\5\26\7" + b"\0" * 60)
    (video.path / ".DS_Store").write_bytes(b"\0" * 9)
    (video.path / ".ipynb_checkpoints").mkdir()
    (video.path / "Thumbs.db").write_bytes(b"\0" * 9)


PICTURE_CHANGES: Mapping[str, Callable[[Draw, Video], None]] = {
    "a damaged picture": _broken,
    "an odd picture": _odd_picture,
    "a picture of another size": _larger,
    "two pictures of a stem": _twin,
    "the first mask inside": _first_mask_inside,
    "hidden files": _hidden,
}


def _mask(draw: Draw, made: Case, video: Video) -> Path:
    path = made.folder / draw.one(["first.png", "first mask #1.png", "erste ü.png"])
    ids = pictures.ids(*video.size)
    ways = {**pictures.SAVED, **pictures.REFUSED, **pictures.UNFIT}
    how = draw.one(sorted(ways)) if draw.chance(0.5) else "palette"
    ways[how](path, ids)
    if how not in ("palette", "grey", "0 and 255", "one bit"):
        made.changes.append(f"mask: {how}")
        video.sound = False
    if how in pictures.REFUSED or how in pictures.UNFIT:
        video.wrong.append(f"the mask is {how}")
    elif draw.chance(0.15):
        what = draw.one(sorted(pictures.DAMAGED))
        made.changes.append(f"mask: {what}")
        pictures.DAMAGED[what](path, draw)
        video.wrong.append(f"the mask is damaged ({what})")
    return path


def _out(draw: Draw, made: Case, video: Video, mask: Path) -> tuple[Path, list[str]]:
    """Draw where the answers go; a place that is an input's is no place."""
    how = draw.one([*PLACES, "a film", "a folder", "left out"])
    made.changes.append(f"out: {how}")
    if how == "left out":
        return video.path.with_name(f"{video.path.stem}-masks"), []
    out = (
        made.folder
        / {
            "a film": draw.one(["o.mp4", "o.MP4", "o x.mp4", "o.avi", "o.mov"]),
            "a folder": draw.one(["masks", "new/masks", "masks #1", "маски"]),
            "an odd suffix": draw.one(["o.mkv", "o.webm", "o.gif", "o.png", "o.zip", "o.txt"]),
            "the video": video.path.name,
            "the mask": mask.name,
            "a link to the video": "link-out.mp4",
            "the video spelt otherwise": f"work/../{video.path.name}",
            "a folder with files": "full",
            "a film that is there": "there.mp4",
            "below a file": f"{mask.name}/out",
        }[how]
    )
    if how == "a link to the video":
        out.symlink_to(video.path)
    if how == "a folder with files":
        out.mkdir()
        (out / "mine.png").write_bytes(b"a picture of somebody")
        (out / "00000.png").write_bytes(b"a mask of somebody")
    if how == "a film that is there":
        out.write_bytes(b"a film of somebody")
    if how not in ("a film", "a folder", "an odd suffix"):
        video.wrong.append(f"--out is {how}")
    if how == "an odd suffix":
        video.wrong.append(
            f"--out is neither a folder nor a film that can be written: {out.suffix}"
        )
    return out, ["--out", str(out)]


PLACES = (
    "an odd suffix",
    "the video",
    "the mask",
    "a link to the video",
    "the video spelt otherwise",
    "a folder with files",
    "a film that is there",
    "below a file",
)
