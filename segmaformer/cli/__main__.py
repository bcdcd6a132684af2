"""``python -m segmaformer.cli`` is ``sgmf``."""

from segmaformer.cli.main import main

if __name__ == "__main__":
    main()
