"""Other ways to look at a namespace, of which they know no more than :class:`Storage` says."""
