# pathlib would be one more import in every instance.
# ruff: noqa: PTH101, PTH110, PTH115, PTH208, PTH211, SIM105
"""What code in an instance might try. Each attempt returns what it got: true if it got through.

An attempt that the seal stops raises OSError or returns a false value; seal_test.cc has, for each, the rule that stops
it and shows that it gets through once just that rule is left out.
"""

import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import tempfile
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


# At the same address in the template and in all that were forked from it.
LANDMARK = ctypes.create_string_buffer(b"landmark")


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
    for prefix in ("", "/host", "/proc/1/root", "/proc/self/root/../..", "/proc/2/root", "/../../.."):
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


def template_pid(_):
    return os.getppid()


def signal_process(pid):
    os.kill(pid, 0)
    return True


def trace_process(pid):
    syscall(101, ctypes.c_long(16), ctypes.c_long(pid), None, None)
    os.waitpid(pid, 0x40000000)
    syscall(101, ctypes.c_long(17), ctypes.c_long(pid), None, None)
    return True


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def read_process_by_process_vm(pid):
    target = ctypes.create_string_buffer(8)
    there, here = Piece(ctypes.addressof(LANDMARK), 8), Piece(ctypes.addressof(target), 8)
    syscall(310, ctypes.c_long(pid), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return target.raw == b"landmark"


def environment_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return len(file.read()) > 0


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
    return read_process_by_process_vm(os.getpid())


def unshare_user(_):
    return syscall(272, ctypes.c_long(0x10000000)) == 0


def unshare_user_by_clone(_):
    child = syscall(56, ctypes.c_long(0x10000000 | signal.SIGCHLD), None, None, None, None)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def unshare_user_by_clone3(_):
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    child = syscall(435, ctypes.create_string_buffer(arguments), ctypes.c_size_t(len(arguments)))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def in_child(attempt):
    """Whether it got through in a child, which may lose its root or its rights by it."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def pivot_root(_):
    def attempt():
        syscall(272, ctypes.c_long(0x10020000))
        if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) != 0:
            return False
        os.chdir("/tmp")
        return syscall(155, b".", b".") == 0

    return in_child(attempt)


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
    an_array = struct.pack("4I", 2, 4, 4, 1) + bytes(112)
    return syscall(321, ctypes.c_int(0), ctypes.create_string_buffer(an_array), ctypes.c_uint(48)) >= 0


def io_uring(_):
    return syscall(425, ctypes.c_uint(1), ctypes.create_string_buffer(120)) >= 0


def userfaultfd(_):
    return syscall(323, ctypes.c_int(1)) >= 0


def perf_event(_):
    return syscall(298, ctypes.create_string_buffer(b"\x01\0\0\0\x70\0\0\0" + bytes(104)), 0, -1, -1, 0) >= 0


def load_module(_):
    try:
        return syscall(175, ctypes.create_string_buffer(8), ctypes.c_ulong(8), ctypes.c_char_p(b"")) == 0
    except OSError as error:
        return error.errno == errno.ENOEXEC  # it was looked at, and is none


def make_device(_):
    os.mknod(tempfile.mktemp(), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return True


def kernel_log(_):
    return syscall(103, ctypes.c_int(10), None, ctypes.c_int(0)) > 0


def open_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))
    return True


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


def facts_of_host(secrets):
    """Which of the host's own marks stand in anything that tells about the machine."""
    places = ["/etc/hostname", "/etc/machine-id", "/proc/version", "/proc/mounts", "/proc/self/mountinfo"]
    places += [f"/proc/sys/kernel/{name}" for name in ("hostname", "domainname", "osrelease", "version")]
    places += ["/proc/sys/kernel/random/boot_id", "/proc/cmdline", "/proc/keys", "/proc/timer_list"]
    places += ["/proc/net/route", "/proc/net/arp", "/proc/net/dev", "/proc/net/unix", "/sys/class/net"]
    text = " ".join([*os.uname(), socket.gethostname()])
    for place in places:
        try:
            with open(place) as file:
                text += file.read()
        except OSError:
            continue
    return [secret for secret in secrets if secret in text]


# --- bombs: each fills its kind of memory with so many megabytes, and says how many it got


def fill_heap(megabytes):
    held = [bytearray(os.urandom(1 << 16) * 16) for _ in range(megabytes)]
    return len(held)


def fill_file(path, megabytes):
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(b"x" * (1 << 20))
            file.flush()
    return megabytes


def read_whole(path):
    with open(path, "rb", buffering=0) as file:
        return sum(len(piece) for piece in iter(lambda: file.read(1 << 20), b"")) >> 20


def fill_tmp(megabytes):
    return fill_file("/tmp/bomb", megabytes)


def fill_shm(megabytes):
    return fill_file("/dev/shm/bomb", megabytes)


def fill_memfd(megabytes):
    return fill_file(f"/proc/self/fd/{os.memfd_create('bomb')}", megabytes)


def fill_shared_mapping(megabytes):
    mapping = mmap.mmap(-1, megabytes << 20)
    for at in range(0, megabytes << 20, 4096):
        mapping[at] = 1
    return megabytes


def fill_until_full(pairs, megabytes, send):
    """Writes into buffers that nobody reads, opening more of them, until so much lies in them."""
    filled, kept = 0, []
    while filled < megabytes << 20:
        try:
            reader, writer = pairs()
        except OSError:
            break
        kept.append((reader, writer))
        try:
            while True:
                filled += send(writer, b"x" * 65536)
        except BlockingIOError:
            continue
    return filled >> 20


def fill_pipes(megabytes):
    def pipe():
        reader, writer = os.pipe2(os.O_NONBLOCK)
        try:
            fcntl.fcntl(writer, 1031, 1 << 20)  # F_SETPIPE_SZ
        except OSError:
            pass
        return reader, writer

    return fill_until_full(pipe, megabytes, os.write)


def fill_unix_sockets(megabytes):
    def pair():
        one, other = socket.socketpair()
        other.setblocking(False)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return one, other

    return fill_until_full(pair, megabytes, lambda end, data: end.send(data))


def fill_tcp_sockets(megabytes):
    server = socket.create_server(("127.0.0.1", 0))

    def pair():
        client = socket.create_connection(server.getsockname())
        peer, _address = server.accept()
        client.setblocking(False)
        return peer, client

    return fill_until_full(pair, megabytes, lambda end, data: end.send(data))


def fill_udp_sockets(megabytes):
    receivers, sender, filled = [], socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
    try:
        while len(receivers) < megabytes * 5:
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            receivers.append(receiver)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            receiver.bind(("127.0.0.1", 0))
            receiver.setblocking(False)
            for _ in range(16):
                sender.sendto(b"x" * 32768, receiver.getsockname())
    except OSError:
        pass
    # Nobody is told what was dropped: what was kept is what comes out.
    for receiver in receivers:
        try:
            while True:
                filled += len(receiver.recv(65536))
        except BlockingIOError:
            continue
    return filled >> 20


def fork_bomb(wanted):
    made = []
    try:
        for _ in range(wanted):
            child = os.fork()
            if child == 0:
                signal.pause()
            made.append(child)
    except OSError:
        pass
    for child in made:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(made)


def thread_bomb(wanted):
    stop, made = threading.Event(), []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=stop.wait)
            thread.start()
            made.append(thread)
    except RuntimeError:
        pass
    stop.set()
    for thread in made:
        thread.join()
    return len(made)


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


def use_shared_memory(_):
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    try:
        memory.buf[:5] = b"hello"
        other = multiprocessing.shared_memory.SharedMemory(memory.name)
        try:
            return bytes(other.buf[:5]).decode()
        finally:
            other.close()
    finally:
        memory.close()
        memory.unlink()


def use_ipc(_):
    key = syscall(29, ctypes.c_int(0), ctypes.c_size_t(4096), ctypes.c_int(0o1600))
    return syscall(31, ctypes.c_int(key), ctypes.c_int(0), None) == 0


def use_files(_):
    folder = tempfile.mkdtemp()
    with open(f"{folder}/a", "w") as file:
        file.write("hello")
    os.link(f"{folder}/a", f"{folder}/b")
    os.symlink(f"{folder}/b", f"{folder}/c")
    os.chmod(f"{folder}/b", 0o600)
    with open(f"{folder}/c") as file:
        return file.read()


def use_abstract_socket(_):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("\0own")
        server.listen()
        client.connect("\0own")
        return server.accept()[0].fileno() > 0


def use_proc(_):
    with open("/proc/self/status") as status, open("/proc/meminfo") as memory, open("/proc/cpuinfo") as processors:
        return bool(status.read() and memory.read() and processors.read())


def use_clocks(_):
    return time.time() > 1.6e9 and time.monotonic() > 0 and time.process_time() > 0 and os.uname().sysname == "Linux"


def handler(event, context):
    try:
        return {"got": globals()[event["do"]](event.get("with"))}
    except OSError as error:
        return {"got": False, "error": str(error)}
