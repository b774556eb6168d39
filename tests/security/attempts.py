# pathlib would be one more import in every instance.
# ruff: noqa: PTH110, PTH115, PTH208
"""What code in an instance might try. Each attempt returns what it got: true if it got through.

An attempt that the seal stops raises OSError or returns a false value; seal_test.cc has, for each, the rule that stops
it and shows that it gets through once just that rule is left out.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def syscall(number, *arguments):
    # A plain int would be passed as 32 bits, and the kernel reads 64: what the stack held before would be the rest.
    whole = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = libc.syscall(ctypes.c_long(number), *whole)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def others():
    """Processes of this pid namespace that are neither pid 1 nor ours, seen or not."""
    me = os.getpid()
    return [pid for pid in range(2, 60) if pid != me]


# --- attacks


def read_path(path):
    for prefix in ("", "/proc/1/root", "/proc/self/root/../..", "/proc/2/root", "/../../.."):
        try:
            with open(prefix + path) as file:
                return file.read()
        except OSError:
            continue
    return ""


def process_of(pid):
    return os.path.exists(f"/proc/{pid}")


def descriptors(_):
    """Descriptors beyond the standard three and the instance's own socket."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) > 2 and not target.startswith("/proc/"):
            found.append(target)
    return [] if len(found) == 1 and found[0].startswith("socket:") else found


def leave_in_tmp(text):
    for path in ("/tmp/secret", "/dev/shm/secret"):
        with open(path, "w") as file:
            file.write(text)
    os.environ["MINE"] = text
    return os.getpid()


def find_in_tmp(_):
    return read_path("/tmp/secret") or read_path("/dev/shm/secret")


def signal_others(_):
    reached = []
    for pid in others():
        try:
            os.kill(pid, 0)
            reached.append(pid)
        except OSError:
            continue
    return reached


def kill_sibling(pid):
    os.kill(pid, signal.SIGKILL)
    return True


def read_sibling_memory(pid):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
        memory.seek(start)
        return len(memory.read(16)) == 16


def see_sibling(pid):
    return os.path.exists(f"/proc/{pid}/status")


def ptrace_child(_):
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    try:
        syscall(101, ctypes.c_long(16), ctypes.c_long(child), None, None)
        return True
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def read_own_memory_by_process_vm(_):
    class Piece(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    source, target = ctypes.create_string_buffer(b"x" * 8), ctypes.create_string_buffer(8)
    there, here = Piece(ctypes.addressof(source), 8), Piece(ctypes.addressof(target), 8)
    return syscall(310, ctypes.c_long(os.getpid()), ctypes.byref(here), 1, ctypes.byref(there), 1, 0) == 8


def unshare_user(_):
    return syscall(272, ctypes.c_long(0x10000000)) == 0


def unshare_user_by_clone(_):
    child = syscall(56, ctypes.c_long(0x10000000 | signal.SIGCHLD), None, None, None, None)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def mount_in_user_namespace(_):
    syscall(272, ctypes.c_long(0x10020000))
    return libc.mount(b"tmpfs", b"/opt", b"tmpfs", 0, None) == 0


def join_namespace(_):
    syscall(272, ctypes.c_long(0x10000000 | 0x04000000))  # then the rights over our own uts namespace would be ours
    fd = os.open("/proc/self/ns/uts", os.O_RDONLY)
    return syscall(308, ctypes.c_long(fd), ctypes.c_long(0x04000000)) == 0


def change_root(_):
    syscall(272, ctypes.c_long(0x10000000))
    return syscall(161, ctypes.c_char_p(b"/tmp")) == 0


def connect_tcp(port):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        return bool(connection.recv(16))


def connect_abstract(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name)
        return True


def listen_abstract(name):
    global listener
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + name)
    listener.listen()
    return True


def raw_socket(_):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).fileno() >= 0


def kernel_events_socket(_):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15).fileno() >= 0


def add_key(_):
    return syscall(248, b"user", b"name", b"x", ctypes.c_size_t(1), ctypes.c_int(-2)) > 0


def load_bpf(_):
    return syscall(321, ctypes.c_int(0), ctypes.create_string_buffer(128), ctypes.c_uint(48)) >= 0


def io_uring(_):
    return syscall(425, ctypes.c_uint(1), ctypes.create_string_buffer(120)) >= 0


def userfaultfd(_):
    return syscall(323, ctypes.c_int(1)) >= 0


def perf_event(_):
    return syscall(298, ctypes.create_string_buffer(b"\x01\0\0\0\x70\0\0\0" + bytes(104)), 0, -1, -1, 0) >= 0


def load_module(_):
    return syscall(175, ctypes.create_string_buffer(8), ctypes.c_ulong(8), ctypes.c_char_p(b"")) == 0


def write_to(path):
    with open(path, "w") as file:
        file.write("changed")
    return True


def become_root(path):
    return subprocess.run([path, "-u"], capture_output=True, text=True).stdout.strip() == "0"


def capabilities(_):
    with open("/proc/self/status") as file:
        sets = {line.split(":")[0]: line.split()[1] for line in file if line.startswith("Cap")}
    return [name for name, value in sets.items() if int(value, 16) != 0]


def cgroups(_):
    return os.path.exists("/sys/fs/cgroup") or os.path.exists("/sys/kernel")


def host_name(_):
    return "" if os.uname().nodename == "sundog" else os.uname().nodename


def ipc_of_host(key):
    return syscall(29, ctypes.c_int(key), ctypes.c_size_t(4096), ctypes.c_int(0)) >= 0


# --- what ordinary code does


def use_subprocess(_):
    return subprocess.run(["sh", "-c", "echo $((6*7))"], capture_output=True, text=True, check=True).stdout.strip()


def use_threads(_):
    seen = []
    threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(seen)


def _square(x):
    return x * x


def use_multiprocessing(_):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(_square, [1, 2, 3])


def use_spawn(_):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(_square, [4])


def use_sqlite(_):
    with sqlite3.connect("/tmp/x.db") as database:
        database.execute("create table if not exists t (a)")
        database.execute("insert into t values (42)")
        return database.execute("select max(a) from t").fetchone()[0]


def use_loopback(_):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _address = server.accept()
        with peer:
            client.sendall(b"hello")
            return peer.recv(5).decode()


def use_signals_in_own_group(_):
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    return child.wait()


def use_numpy(_):
    import numpy

    return float(numpy.linalg.det(numpy.eye(50) * 1.0))


def use_devices(_):
    with open("/dev/urandom", "rb") as file, open("/dev/null", "w") as null:
        null.write("x")
        return len(file.read(8))


def handler(event, context):
    try:
        return {"got": globals()[event["do"]](event.get("with"))}
    except OSError as error:
        return {"got": False, "error": str(error)}
