"""``python -m layerkit`` is the command ``layerkit``."""

from .cli import main

main()
