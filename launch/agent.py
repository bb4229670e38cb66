"""torchrun, whose own exit status is always 1, with the exit status of the rank that ended first.

A program, `python -m launch.agent` with torchrun's arguments.
"""

import logging
import sys


def main() -> int:
    """Run torchrun; the exit status, of a rank that a signal killed its negative number, as with DeepSpeed's launcher.

    The ranks speak for themselves; torchrun calls every exit status an error, also that of an orderly stop.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as error:
        return 128 + error.sigval
    except (RendezvousError, DistError) as error:
        told = str(error).splitlines()[0]
        print(f"tarmac: the machines lost each other or did not meet ({told}); see cluster.endpoint", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
