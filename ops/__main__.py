"""``python -m ops`` is ``pointsman``."""

import sys

from ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
