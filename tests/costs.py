"""What calls cost, in processor time: a clock on the wall says little where others use the machine, too."""

import contextlib
import os
import signal
import threading
import time


@contextlib.contextmanager
def ctrl_c_raises():
    """Let SIGINT raise KeyboardInterrupt, whatever the process was started with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def seconds_of(call):
    """Return the processor time of a call, of all threads."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def late(call, after):
    """Interrupt a call that has used `after` seconds; return how many more it uses to end, None if it was over."""
    sent, over, returned = [], threading.Event(), False

    def interrupt():
        while not over.is_set() and time.process_time() < begun + after:
            time.sleep(0.002)
        if not over.is_set():
            sent.append(time.process_time())
            os.kill(os.getpid(), signal.SIGINT)

    watch = threading.Thread(target=interrupt)
    with ctrl_c_raises():
        begun = time.process_time()
        watch.start()
        try:
            call()
            returned = True
            over.set()
            watch.join()  # a signal on its way arrives here
        except KeyboardInterrupt:
            ended = time.process_time()
            over.set()
            watch.join()
            return None if returned else ended - sent[0]
    return None
