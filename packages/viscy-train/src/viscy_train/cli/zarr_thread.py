"""The thread of zarr-python: it is ended when the process exits, however loaded the machine is."""

from __future__ import annotations

import atexit
import sys

# zarr-python waits 0.2 seconds, and prints a traceback after that.
_PATIENCE = 10.0


def end_at_exit() -> None:
    """End the thread of zarr-python, if it was imported, when the process exits; another call has no effect."""
    atexit.unregister(_end)
    if "zarr.core.sync" in sys.modules:  # functions that are registered last are called first
        atexit.register(_end)


def _end() -> None:
    # None of these names are public, so a version of zarr-python may lack them.
    sync = sys.modules.get("zarr.core.sync")
    loop, thread = (getattr(sync, name, [None])[0] for name in ("loop", "iothread"))
    if loop is None or thread is None or loop.is_closed():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_PATIENCE)
    if not thread.is_alive():
        getattr(sync, "cleanup_resources", lambda: None)()
