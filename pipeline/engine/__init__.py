"""DeepSpeed, and nothing else of Tarmac imports it: settings, the training step, checkpoints, memory."""

import logging

logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
