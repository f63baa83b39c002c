"""``python -m tudsr`` is the ``tudsr`` command."""

from tudsr.cli import main

main()
