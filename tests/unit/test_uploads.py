"""What one user uploads and does not use is bounded; others, and what is used, do not count."""

from __future__ import annotations

import pytest

from jobd.daemon.uploads import Uploads
from jobd.errors import RefusedError

A, B, C = (bytes([n]) * 16 for n in range(3))


def test_a_users_uploads_are_bounded() -> None:
    uploads = Uploads(most=1000)
    uploads.require(1, A, 600)
    uploads.require(1, A, 600)  # sent again: its reply was lost
    with pytest.raises(RefusedError, match=r"uid 1 has 1 uploads.*maxima\.uploads"):
        uploads.require(1, B, 401)
    uploads.require(1, B, 400)
    uploads.require(2, B, 1000)
    uploads.used(1, A)
    uploads.used(1, C)
    uploads.require(1, C, 600)


def test_what_is_a_day_old_is_gone() -> None:
    clock = [0.0]
    uploads = Uploads(1000, lambda: clock[0])
    uploads.require(1, A, 1000)
    clock[0] = 86_000.0
    with pytest.raises(RefusedError):
        uploads.require(1, B, 1)
    clock[0] = 86_401.0
    uploads.require(1, B, 1000)


def test_empty_ones_count_too() -> None:
    uploads = Uploads()
    for number in range(10_000):
        uploads.require(1, number.to_bytes(16), 0)
    with pytest.raises(RefusedError, match="10000 uploads"):
        uploads.require(1, b"x" * 16, 0)
