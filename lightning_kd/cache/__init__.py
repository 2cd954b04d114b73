"""What a teacher cache is made of; the callback is :class:`~lightning_kd.callbacks.TeacherCache`.

One file a question: ``fingerprint``, ``state`` and ``code`` (is this still the same data set, transform, function?),
``weights`` (is this still the same teacher?), ``key`` (which directory), ``layout`` (the bytes of one entry), ``shard``
and ``store`` (the files), ``budget`` (do they fit), ``records`` (views to entries and back), ``inputs`` (was the
teacher given the same), ``reader`` (one teacher's entries in a training step).
"""
