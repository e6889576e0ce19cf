"""``python -m neuroaug``."""

from neuroaug.cli import main

if __name__ == "__main__":
    main()
