"""Test segment on films, pictures and first masks as people have them."""

import pytest

from tests.fuzz import films
from tests.fuzz.runner import cases, check

pytestmark = pytest.mark.slow


@cases(films.COUNT)
def test_every_frame_is_answered_or_the_video_is_refused_in_words(index, tmp_path, tiny, capfd):
    check(films.case(index, tmp_path, tiny), capfd)
