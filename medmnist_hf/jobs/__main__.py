"""Program of a job: ``python -m medmnist_hf.jobs FOLDER INDEX``; engines start it."""

import sys
from pathlib import Path

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.jobs.worker import run_share

if __name__ == "__main__":
    try:
        sys.exit(run_share(Path(sys.argv[1]), int(sys.argv[2])))
    except MedMNISTError as error:
        sys.exit(f"error: {error}")
