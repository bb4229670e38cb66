"""The first program of a rank that was started over ssh: it takes over what `launch.hostfile.encoded` holds."""

import base64
import json
import os
import sys

from launch.machine import extensions_folder, num_gpus


def main() -> None:
    """Become the job's own command, with its variables set."""
    content = json.loads(base64.urlsafe_b64decode(sys.argv[1]))
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(extensions_folder()))
    os.environ.update(content["environment"])
    if "DS_ACCELERATOR" not in os.environ and not num_gpus():
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.execv(sys.executable, [sys.executable, "-u", "-m", "pipeline.cli", *content["arguments"]])


if __name__ == "__main__":
    main()
