"""A model in Python of the commands that the software controller in C does not have.

It knows them by the declarations of :mod:`pynvme_user.spec`. ``soft:?commands=all`` has it.
"""
