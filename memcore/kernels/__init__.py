"""All memories and their controllers as compiled loops, for the CPU (extra ``fast``).

One topic of the equations a file, each held against its plain form by the tests. Importing this
package needs numba; `memcore.backends.numba_is_missing` tells whether it is there.
"""
