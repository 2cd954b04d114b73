"""What a teacher cache raises when it cannot be right."""

from __future__ import annotations


class TeacherCacheError(RuntimeError):
    """A cache that would be wrong, or cannot be read or written; the message says what to do."""


class FingerprintError(TypeError):
    """An object of which no stable fingerprint can be taken."""
