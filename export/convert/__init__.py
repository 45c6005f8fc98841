"""Datasets in the layouts of other programs: one module a format, all listed in ``convert.FORMATS``."""
