"""``python -m relope``, and where the command ``relope`` begins: Ctrl-C while libraries load is one like any other."""

import os
import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from relope.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
        os._exit(130)  # what is half imported may not survive an orderly end


if __name__ == "__main__":
    main()
