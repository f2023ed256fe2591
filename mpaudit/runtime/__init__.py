"""The runtime wing: the user's own script under several precisions, bounded, timed and compared.

The parent (this package) never imports torch; the children (`mpaudit.runtime.child`) do.
"""
