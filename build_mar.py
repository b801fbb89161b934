"""Pack a model folder for TorchServe and SageMaker, like `spoter pack`."""

import sys

from spoter.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "pack")
    main()
