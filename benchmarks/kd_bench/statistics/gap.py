"""How much of the way from the plain student to its teacher a method goes."""

from __future__ import annotations


def gap_closed(accuracy: float, student: float, teacher: float) -> float | None:
    """Share of the gap between plain student and teacher that a method closes.

    Args:
        accuracy: the method's mean accuracy.
        student: the plain student's mean accuracy.
        teacher: the teacher's accuracy.

    Returns:
        ``(accuracy - student) / (teacher - student)``, or ``None`` where the teacher is not better than the student.

    >>> round(gap_closed(0.75, student=0.70, teacher=0.80), 3)
    0.5
    """
    return (accuracy - student) / (teacher - student) if teacher > student else None
