"""Values that are edited in place: versions, rows, gradients, recency, links.

What they share is `memcore.persistent.versions`: the newest version of a value owns the buffers,
older ones stay valid by a journal of what each edit lost. `memcore` exports the values.
"""
