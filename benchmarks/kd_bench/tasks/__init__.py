"""What differs between classification and detection: networks, training, scores. Everything else is common.

* ``base``: what a task has to say.
* ``classification`` and ``detection``: the tasks.
* ``registry``: from a name to the task.
"""
