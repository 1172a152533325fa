"""Exit codes, and messages for errors. Imports neither Hydra nor torch, so that messages about mistakes come fast."""

import errno
import os
import select
import sys
from collections.abc import Callable

from facerec.core.errors import FacerecError, LostProcessError, OtherProcessError

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
OF_THE_DISK = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


def exit_code(work: Callable[[], int]) -> int:
    """Runs `work` and returns its exit code; prints an error for the user without a traceback.

    The code is 2 for an error that the user can fix, including errors of the disk, 1 if another process of the
    training was lost, and 130 after Ctrl-C. Other exceptions are bugs in facerec and keep their traceback.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except OtherProcessError:  # the other process prints it
        return USER_ERROR
    except FacerecError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED if isinstance(error, LostProcessError) else USER_ERROR
    except BrokenPipeError:
        if not _has_no_reader(1):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter writes the rest of the buffer at its end
        return FAILED
    except OSError as error:
        if error.errno not in OF_THE_DISK or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _has_no_reader(fd: int) -> bool:
    """True for a pipe that nobody reads any more, as after `| head`."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def started_with_others() -> bool:
    """True if torchrun or `launch` has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def quiet_torch() -> None:
    """Hides expected warnings of torch's C++ code among several processes; call it before torch is imported."""
    if started_with_others():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
